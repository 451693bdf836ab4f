/** Scratchpad's part of the statement that makes leases: its row. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import type { VariantCreation } from "../lease/lease-variant.ts";

export const scratchpadCreation: VariantCreation = {
  ctes: `
  scratchpad_made as (
    insert into scratchpad (owner_id, lease_id, max_entry_bytes)
    select $1::uuid, p.lease_id, (p.terms->>'max_entry_bytes')::int
    from paid p
    where p.variant = ${Lease_Variant.SCRATCHPAD}
  )`,
};
