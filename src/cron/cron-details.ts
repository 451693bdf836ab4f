/** What a Cron lease is bounded by, and what it keeps sealed in its row. */

/** The sealed details. The rest is in the clear row, for whoever fires. */
export interface SealedCron {
  readonly contentType: string;
  /** Empty: the target is a lease. */
  readonly webhookUrl: string;
  /** The version of the server key from which the webhook secret is derived. */
  readonly tokenKeyVersion: number;
  readonly firings: number;
}

/** How often a lease fires at most. */
export const maxFirings = 50_000;
/** The largest payload: what a mailbox takes in one message. */
export const maxPayloadBytes = 1_048_576;
/** The longest duration: what is counted when a lease is priced is bounded by it. */
export const maxCronSeconds = 366n * 86_400n;
/** How late a slot may be found before the misfire policy is asked. */
export const misfireSeconds = 60n;
export const defaultLatenessSeconds = 3_600n;
export const maxLatenessSeconds = 604_800n;
export const maxJitterSeconds = 3_600n;
export const defaultContentType = "application/octet-stream";

/** Packs details for sealing. */
export function packCron(details: SealedCron): Uint8Array {
  return Buffer.from(JSON.stringify(details));
}

/** Unpacks opened details. */
export function unpackCron(packed: Uint8Array): SealedCron {
  const details: unknown = JSON.parse(Buffer.from(packed).toString("utf8"));
  return details as SealedCron;
}
