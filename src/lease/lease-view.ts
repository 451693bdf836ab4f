/** Shows a lease's row as the proto's Lease. */
import { create } from "@bufbuild/protobuf";
import { type Lease, LeaseSchema } from "#gen/leasehold/v1/lease_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { formatId } from "../ids/ids.ts";
import { toDuration, toTimestamp } from "../proto-values/proto-time.ts";
import { endOf, type LeaseRow, stateOf } from "./lease-row.ts";
import type { LeaseSeals } from "./lease-seals.ts";
import type { LeaseVariants } from "./lease-variant.ts";

/** Shows leases. */
export class LeaseView {
  readonly #variants: LeaseVariants;
  readonly #seals: LeaseSeals;

  constructor(variants: LeaseVariants, seals: LeaseSeals) {
    this.#variants = variants;
    this.#seals = seals;
  }

  /** A lease as it is at `now`. One that is due is shown as ended, whether or not a sweep has been by. */
  async show(row: LeaseRow, now: DatabaseTime): Promise<Lease> {
    const variant = this.#variants.of(row);
    const end = endOf(row, now);
    const specified = end === undefined ? await this.#seals.openDetails(row) : undefined;
    return create(LeaseSchema, {
      leaseId: formatId("lse", row.lease_id),
      variant: variant.variant,
      state: stateOf(row, now),
      sizeBytes: row.size_bytes,
      duration: toDuration(row.duration_seconds),
      expiryBehavior: row.expiry_behavior,
      readAccess: row.read_access,
      writeAccess: variant.writeAccess,
      deleteOnAccess: row.delete_on_access,
      priceMicros: row.price_micros,
      createTime: toTimestamp(row.create_time),
      activeTime: toTimestamp(row.active_time),
      expireTime: toTimestamp(row.expire_time),
      endTime: toTimestamp(end?.time ?? null),
      endReason: end?.reason ?? 0,
      destroyTime: toTimestamp(row.destroy_time),
      unrecoverableTime: toTimestamp(row.unrecoverable_time),
      labels: end === undefined ? (row.labels ?? {}) : {},
      details: variant.details(row, specified),
    });
  }
}
