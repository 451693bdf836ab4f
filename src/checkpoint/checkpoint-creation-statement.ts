/** Checkpoint's part of the statement that makes leases: its rows, and the refusal of a workflow that another lease has. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";

/** What `p.terms` holds of a new lease. Of its first version, if there is one, the tail is `p.content`. */
export interface CheckpointTerms {
  readonly workflow_id: string;
  readonly retained_versions: number;
  readonly first?: {
    readonly body_id: string;
    readonly file_generation: number | null;
    readonly file_chunks: number;
    /** In hexadecimal. */
    readonly sealed_details: string;
  };
}

/** An expression over the item `i`: exact, as an owner's leases are made under the lock of its account. */
export const creationRefusal = `
  case when checkpoint_holder($1::uuid, i.terms->>'workflow_id') is not null then 'WORKFLOW_IN_USE' end`;

/**
 * The CTEs. A workflow's row names the latest lease made for it: the one before has ended, whether or not it is
 * destroyed. A first version's file was begun before the lease: $4, the leases, and its number are the whole key of its row.
 */
export const creationCtes = `
  checkpoint_made as (
    insert into checkpoint (owner_id, lease_id, workflow_id, retained_versions, file_generation)
    select $1::uuid, p.lease_id, p.terms->>'workflow_id', (p.terms->>'retained_versions')::int,
      coalesce((p.terms->'first'->>'file_generation')::int, 0)
    from paid p
    where p.variant = ${Lease_Variant.CHECKPOINT}
  ),
  checkpoint_named as (
    insert into checkpoint_workflow (owner_id, workflow_id, lease_id)
    select $1::uuid, p.terms->>'workflow_id', p.lease_id
    from paid p
    where p.variant = ${Lease_Variant.CHECKPOINT}
    order by p.terms->>'workflow_id'
    on conflict (owner_id, workflow_id) do update set lease_id = excluded.lease_id
  ),
  checkpoint_first as (
    insert into checkpoint_version
      (owner_id, lease_id, slot, version, body_id, body_bytes, create_time, file_generation, file_chunks, sealed_details,
       sealed_tail)
    select $1::uuid, p.lease_id, 1 % (p.terms->>'retained_versions')::int, 1, (p.terms->'first'->>'body_id')::uuid,
      p.content_bytes, p.now, (p.terms->'first'->>'file_generation')::int, (p.terms->'first'->>'file_chunks')::bigint,
      decode(p.terms->'first'->>'sealed_details', 'hex'), p.content
    from paid p
    where p.variant = ${Lease_Variant.CHECKPOINT} and p.terms ? 'first'
  ),
  checkpoint_file_taken as (
    delete from checkpoint_file f
    using paid p
    where f.owner_id = $1::uuid and f.lease_id = any($4::uuid[]) and f.lease_id = p.lease_id
      and f.file_generation = (p.terms->'first'->>'file_generation')::int
  )`;
