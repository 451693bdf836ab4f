/** Shows a lease's row as the proto's Lease. */
import { create } from "@bufbuild/protobuf";
import { type Lease, LeaseSchema } from "#gen/leasehold/v1/lease_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { formatId, type LeaseUuid } from "../ids/ids.ts";
import { toDuration, toTimestamp } from "../proto-values/proto-time.ts";
import { endOf, type LeaseRow, stateOf } from "./lease-row.ts";
import type { LeaseSeals } from "./lease-seals.ts";
import type { LeaseDetails, LeaseVariants, OpenedLease } from "./lease-variant.ts";

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
    const [shown] = await this.showAll([{ ...row, now }]);
    if (shown === undefined) {
      throw new Error("a lease was not shown");
    }
    return shown;
  }

  /** Leases, each as it is at its `now`, in order. */
  async showAll(rows: readonly (LeaseRow & { readonly now: DatabaseTime })[]): Promise<Lease[]> {
    const details = new Map<LeaseUuid, LeaseDetails>();
    for (const [variant, ofVariant] of Map.groupBy(rows, (row) => this.#variants.of(row))) {
      const opened = await Promise.all(ofVariant.map((row) => this.#opened(row)));
      const shown = await variant.details(opened);
      for (const [index, row] of ofVariant.entries()) {
        details.set(row.lease_id, shown[index] ?? { case: undefined });
      }
    }
    return rows.map((row) => this.#show(row, row.now, details.get(row.lease_id)));
  }

  async #opened(row: LeaseRow & { readonly now: DatabaseTime }): Promise<OpenedLease> {
    const isLive = endOf(row, row.now) === undefined;
    return { lease: row, sealed: isLive ? await this.#seals.openDetails(row) : undefined };
  }

  #show(row: LeaseRow, now: DatabaseTime, details: LeaseDetails | undefined): Lease {
    const variant = this.#variants.of(row);
    const end = endOf(row, now);
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
      details: details ?? { case: undefined },
    });
  }
}
