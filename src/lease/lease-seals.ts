/** Lease keys: made and wrapped for a new lease, unwrapped and remembered for a minute, and what they keep sealed in the row. */
import type { KeyFolder } from "../content/key-folder.ts";
import { LeaseKeyring } from "../content/lease-keyring.ts";
import { open, type SealContext, seal } from "../content/sealing.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { LeaseRow } from "./lease-row.ts";

/** What a new lease's row keeps of its key. */
export interface NewSeals {
  /** The start of the epoch in which the lease is due to end, in Unix seconds. */
  readonly epochSeconds: bigint;
  readonly wrappedKey: Buffer;
  readonly sealedDetails: Buffer;
  /** The key itself. It is never stored. */
  readonly key: Buffer;
}

/** What a lease's row says of its key. */
export type KeyedLease = Pick<LeaseRow, "lease_id" | "epoch_seconds" | "wrapped_key">;

/** Makes lease keys and opens what they seal. */
export class LeaseSeals {
  readonly #folder: KeyFolder;
  readonly #keyring: LeaseKeyring;

  constructor(folder: KeyFolder) {
    this.#folder = folder;
    this.#keyring = new LeaseKeyring(folder);
  }

  get installationId(): string {
    return this.#folder.installationId;
  }

  get epochLengthSeconds(): number {
    return this.#folder.epochLengthSeconds;
  }

  /** Makes the key of a lease that is due to end at a second, and seals its details. */
  async make(leaseId: LeaseUuid, dueSeconds: bigint, details: Uint8Array): Promise<NewSeals> {
    const length = BigInt(this.#folder.epochLengthSeconds);
    const epochSeconds = (dueSeconds / length) * length;
    const { key, wrapped } = await this.#keyring.make(leaseId, Number(epochSeconds));
    const sealedDetails = seal(key, details, this.#detailsContext(leaseId));
    return { epochSeconds, wrappedKey: wrapped, sealedDetails, key };
  }

  /**
   * The key of a lease that a statement has just shown to be live. Remembered for at most 60 s.
   *
   * @throws KeyFolderError if the epoch's key is gone: the lease is then unrecoverable.
   */
  async keyOf(lease: KeyedLease): Promise<Buffer> {
    if (lease.wrapped_key === null) {
      throw new Error("the key of an ended lease was asked for");
    }
    return await this.#keyring.unwrap(lease.lease_id, Number(lease.epoch_seconds), lease.wrapped_key);
  }

  /** What a live lease's variant specified. */
  async openDetails(lease: LeaseRow): Promise<Uint8Array | undefined> {
    if (lease.sealed_details === null) {
      return undefined;
    }
    return open(await this.keyOf(lease), lease.sealed_details, this.#detailsContext(lease.lease_id));
  }

  /** Seals new details for a live lease. */
  async sealDetails(lease: LeaseRow, details: Uint8Array): Promise<Buffer> {
    return seal(await this.keyOf(lease), details, this.#detailsContext(lease.lease_id));
  }

  /** Drops a key from memory, after the lease has ended. */
  forget(leaseId: LeaseUuid): void {
    this.#keyring.forget(leaseId);
  }

  /** Where bytes of a lease's content belong. */
  context(leaseId: LeaseUuid, part: Pick<SealContext, "kind" | "objectId" | "partIndex" | "final">): SealContext {
    return { installationId: this.#folder.installationId, leaseId, ...part };
  }

  #detailsContext(leaseId: LeaseUuid): SealContext {
    return this.context(leaseId, { kind: "details", objectId: "", partIndex: 0, final: true });
  }
}
