/** The statement that finds what lost hints would have told those who watch versions. */
import { readStatement } from "../database/statement.ts";
import type { LeaseUuid } from "../ids/ids.ts";

/** Which leases have a version later than the one last seen of them. $1: owners, $2: leases, $3: versions. No lock. */
export const findNewerVersions = readStatement<{ lease_id: LeaseUuid }>(
  "find-newer-versions",
  `select watched.lease_id
  from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as watched(owner_id, lease_id, version)
  join lateral (
    select content_version from lease where owner_id = watched.owner_id and lease_id = watched.lease_id offset 0
  ) as l on l.content_version > watched.version`,
);
