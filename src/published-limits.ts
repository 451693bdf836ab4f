/** The limits that GetPricing publishes: what every input is bounded by, under the names that errors use. */

import { maxKeysPerAccount } from "./account/api-key-statements.ts";
import type { Config } from "./config/settings.ts";
import { maxSealsPerKey } from "./content/sealing.ts";
import { maxHandoffsPerLease } from "./handoff/handoff-statements.ts";
import type { PublishedLimit } from "./pricing/pricing-view.ts";

/** Every published limit, from the settings and from the schema. */
export function publishedLimits(config: Config): PublishedLimit[] {
  const limit = (name: string, value: number | bigint, unit: string, description: string): PublishedLimit => ({
    name,
    value: BigInt(value),
    unit,
    description,
  });
  return [
    limit(
      "size_bytes",
      config.maxFileBytes,
      "bytes",
      "The largest size_bytes of a Storage lease; what is uploaded is bounded by the lease's own.",
    ),
    limit("max_message_bytes", config.maxMessageBytes, "bytes", "The largest message of an RPC, decompressed."),
    limit("max_header_bytes", config.maxHeaderBytes, "bytes", "All headers of a request together."),
    limit(
      "streams_per_connection",
      config.maxStreamsPerConnection,
      "streams",
      "Calls under way on one HTTP/2 connection.",
    ),
    limit("labels", 16, "labels", "Labels of a lease."),
    limit("label_value_characters", 256, "characters", "The value of a label."),
    limit("file_name_bytes", 255, "bytes", "A file name, in UTF-8."),
    limit("content_type_bytes", 255, "bytes", "A media type."),
    limit("account_name_characters", 128, "characters", "The name of an account or of a key."),
    limit("keys_per_account", maxKeysPerAccount, "keys", "Keys of an account, dead ones included."),
    limit(
      "seals_per_lease",
      maxSealsPerKey,
      "seals",
      "How often content is sealed for one lease, over all uploads to it.",
    ),
    limit("page_size", 1_000, "entries", "A page of any list."),
    limit("handoffs_per_lease", maxHandoffsPerLease, "handoffs", "Handoffs issued for one lease."),
    limit("max_claims", 1_000, "claims", "Claims of one handoff."),
    limit("max_incomplete_claims", 3_000, "claims", "Slots of one handoff that unfinished claims may give back."),
    limit("claim_hold_seconds", config.claimHoldSeconds, "seconds", "How long a claim is held without progress."),
    limit("claim_hold_cap_seconds", config.claimHoldCapSeconds, "seconds", "How long a claim can be held at all."),
    limit(
      "upload_window_seconds",
      config.uploadWindowSeconds,
      "seconds",
      "How long a lease waits for its content before it is refunded.",
    ),
    limit("stall_seconds", config.stallSeconds, "seconds", "How long a stream may move nothing."),
    limit("call_deadline_seconds", config.callDeadlineSeconds, "seconds", "How long a unary call may take."),
    limit(
      "tombstone_seconds",
      config.tombstoneSeconds,
      "seconds",
      "How long an ended lease is still shown to its owner.",
    ),
  ];
}
