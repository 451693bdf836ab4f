/** Owns the settings that the embedded Postgres runs with. Whoever needs others runs a Postgres of their own. */
import type { ListenPlace } from "./listen-place.ts";

/** Lines of `name=value`; given at every start, so that a new release's settings reach clusters of an older one. */
export function serverSettings(place: ListenPlace): readonly string[] {
  const isSocket = "sockets" in place;
  return [
    `port=${place.port}`,
    `unix_socket_directories=${isSocket ? place.sockets : ""}`,
    "unix_socket_permissions=0700",
    `listen_addresses=${isSocket ? "" : "127.0.0.1"}`,
    // What was acknowledged survives a power cut: the default, and never weakened, in tests either.
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    // A server, a sweeper and some tools at 16 connections each, with room for tests that run several of each.
    "max_connections=200",
    // Rows are small, since content over 64 KiB lies in files; this holds some 100,000 leases with their indexes.
    "shared_buffers=256MB",
    // Checkpoints by the clock rather than by volume: each one makes whole pages go to the log again.
    "max_wal_size=2GB",
    "min_wal_size=256MB",
    "checkpoint_timeout=15min",
    // Statements are short and prepared; compiling them costs more than it saves.
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "lc_messages=C",
    // Failures of statements go to the caller, who logs them; here they could show a tenant's values.
    "log_min_messages=log",
    "log_min_error_statement=panic",
    "log_checkpoints=off",
    "cluster_name=leasehold",
  ];
}
