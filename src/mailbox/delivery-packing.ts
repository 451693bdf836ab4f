/** Deliveries as one column of one row: 1,000 rows of seven columns would cost more to read than their content to open. */
import { readUuid } from "../content/uuid-bytes.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import type { MessageUuid } from "../ids/ids.ts";
import type { DeliveryName } from "./receipt.ts";

/** A message that was taken, still sealed. */
export interface PackedDelivery extends DeliveryName {
  readonly messageId: MessageUuid;
  readonly deliveryCount: number;
  readonly dropTime: DatabaseTime;
  readonly holdExpireTime: DatabaseTime;
  /** A view of the whole column. */
  readonly sealed: Buffer;
}

/**
 * Reads what `receive-messages` packs, for each delivery in order, big-endian:
 *
 * | bytes | field |
 * |---|---|
 * | 8 | sequence |
 * | 4 | number of the hold |
 * | 4 | delivery count |
 * | 16 | message id |
 * | 8 | drop time, in microseconds since 2000 |
 * | 8 | end of the hold, likewise |
 * | 4 | length of what is sealed |
 * | n | what is sealed |
 */
export function unpackDeliveries(packed: Buffer): PackedDelivery[] {
  const deliveries: PackedDelivery[] = [];
  for (let at = 0; at < packed.length; ) {
    const sealedEnd = at + headBytes + packed.readUInt32BE(at + 48);
    deliveries.push({
      sequence: packed.readUInt32BE(at) * 2 ** 32 + packed.readUInt32BE(at + 4),
      holdNumber: packed.readUInt32BE(at + 8),
      deliveryCount: packed.readUInt32BE(at + 12),
      messageId: readUuid(packed, at + 16) as MessageUuid,
      dropTime: timeAt(packed, at + 32),
      holdExpireTime: timeAt(packed, at + 40),
      sealed: packed.subarray(at + headBytes, sealedEnd),
    });
    at = sealedEnd;
  }
  return deliveries;
}

const headBytes = 52;
const year2000Micros = 946_684_800_000_000n;

function timeAt(packed: Buffer, at: number): DatabaseTime {
  return (packed.readBigInt64BE(at) + year2000Micros) as DatabaseTime;
}
