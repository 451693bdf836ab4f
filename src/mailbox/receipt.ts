/** Receipts: the opaque text that names one delivery of one message of one mailbox. */
import type { LeaseUuid } from "../ids/ids.ts";

/** One delivery within a mailbox. A sequence is a safe integer: no mailbox lives to see 2^53 messages. */
export interface DeliveryName {
  readonly sequence: number;
  readonly holdNumber: number;
}

const prefix = "rcp_";
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
const digitValues: ReadonlyMap<string, number> = new Map([...alphabet].map((digit, value) => [digit, value]));
/** Digits of five bits: of the mailbox's tag (32 bits), the hold's number (31) and the sequence (53). */
const digits = { tag: 7, holdNumber: 7, sequence: 11 } as const;
const length = prefix.length + digits.tag + digits.holdNumber + digits.sequence;
const largestHoldNumber = 2 ** 31 - 1;

/** `rcp_` and 25 characters of Crockford base32. */
export function formatReceipt(leaseId: LeaseUuid, { sequence, holdNumber }: DeliveryName): string {
  return `${receiptStart(leaseId)}${encode(holdNumber, digits.holdNumber)}${encode(sequence, digits.sequence)}`;
}

/** The delivery that a receipt names, or undefined if it is not one of this mailbox's. */
export function parseReceipt(leaseId: LeaseUuid, receipt: string): DeliveryName | undefined {
  const start = receiptStart(leaseId);
  if (receipt.length !== length || !receipt.startsWith(start)) {
    return undefined;
  }
  const sequenceStart = start.length + digits.holdNumber;
  const holdNumber = decode(receipt, start.length, sequenceStart);
  const sequence = decode(receipt, sequenceStart, length);
  return Number.isSafeInteger(sequence) && holdNumber <= largestHoldNumber ? { sequence, holdNumber } : undefined;
}

/** A sequence as text, for page tokens. */
export function formatSequence(sequence: number): string {
  return encode(sequence, digits.sequence);
}

/** The sequence of a text that formatSequence made, or undefined. */
export function parseSequence(text: string): number | undefined {
  const sequence = text.length === digits.sequence ? decode(text, 0, text.length) : Number.NaN;
  return Number.isSafeInteger(sequence) ? sequence : undefined;
}

/** Ends in random bits of the mailbox's id: a receipt that is sent to another mailbox names nothing there. */
function receiptStart(leaseId: LeaseUuid): string {
  return prefix + encode(Number.parseInt(leaseId.slice(-8), 16), digits.tag);
}

function encode(value: number, places: number): string {
  let text = "";
  let rest = value;
  for (let place = 0; place < places; place++) {
    text = alphabet.charAt(rest % 32) + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}

/** NaN for a character that is no digit. */
function decode(text: string, start: number, end: number): number {
  let value = 0;
  for (let place = start; place < end; place++) {
    value = value * 32 + (digitValues.get(text.charAt(place)) ?? Number.NaN);
  }
  return value;
}
