/** Owns how durations, sizes, sums of money and labels are written on the command line. */
import { InvalidArgumentError } from "commander";

const secondsOf: Readonly<Record<string, bigint>> = { s: 1n, m: 60n, h: 3_600n, d: 86_400n, w: 604_800n };

/** `90s`, `15m`, `24h`, `7d`, `2w`, or several together as `1h30m`. Gives whole seconds. */
export function parseDuration(text: string): bigint {
  if (!/^(\d{1,12}[smhdw])+$/.test(text)) {
    throw new InvalidArgumentError("It must be a duration such as 90s, 15m, 24h, 7d or 1h30m.");
  }
  return [...text.matchAll(/(\d+)([smhdw])/g)].reduce(
    (sum, [, count = "", unit = ""]) => sum + BigInt(count) * (secondsOf[unit] ?? 0n),
    0n,
  );
}

const decimalPowers = ["B", "KB", "MB", "GB", "TB"];
const binaryPowers = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `1048576`, `10MiB`, `1.5GiB` (of 1024) or `10MB` (of 1000). Gives bytes. */
export function parseSize(text: string): bigint {
  const [, whole = "", fraction = "", unit = ""] = /^(\d{1,15})(?:\.(\d{1,9}))?\s*([a-z]*)$/i.exec(text) ?? [];
  const bytes = bytesOfUnit(unit);
  const scaled = bytes === undefined ? undefined : BigInt(`${whole}${fraction}` || "-1") * bytes;
  const divisor = 10n ** BigInt(fraction.length);
  if (whole === "" || scaled === undefined || scaled % divisor !== 0n) {
    throw new InvalidArgumentError("It must be a whole number of bytes such as 1048576, 10MiB, 1.5GiB or 10MB.");
  }
  return scaled / divisor;
}

/** A size that fits 31 bits, at least one byte. */
export function parseByteCount(text: string): number {
  const bytes = parseSize(text);
  if (bytes < 1n || bytes > 0x7fff_ffffn) {
    throw new InvalidArgumentError("It must be a size from 1 byte to less than 2GiB.");
  }
  return Number(bytes);
}

/** `10`, `0.25` or `$1.000001`: US dollars. Gives millionths. */
export function parseDollars(text: string): bigint {
  const [, whole, fraction = ""] = /^\$?(\d{1,12})(?:\.(\d{1,6}))?$/.exec(text) ?? [];
  if (whole === undefined) {
    throw new InvalidArgumentError("It must be a sum in US dollars such as 10, 0.25 or 1.000001.");
  }
  return BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(6, "0"));
}

/** A number of things, at least one. */
export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) {
    throw new InvalidArgumentError("It must be a whole number from 1 up.");
  }
  return Number(text);
}

/** A number of things, or 0 for none. */
export function parseCountOrNone(text: string): number {
  return text === "0" ? 0 : parseCount(text);
}

/** The number of a version, from 0 or 1 up. */
export function parseVersion(text: string): bigint {
  if (!/^(0|[1-9]\d{0,17})$/.test(text)) {
    throw new InvalidArgumentError("It must be a whole number.");
  }
  return BigInt(text);
}

/** A whole number, which may be negative. */
export function parseInteger(text: string): bigint {
  if (!/^[+-]?\d{1,19}$/.test(text) || BigInt.asIntN(64, BigInt(text)) !== BigInt(text)) {
    throw new InvalidArgumentError("It must be a whole number of 64 bits.");
  }
  return BigInt(text);
}

/** Adds `key=value` to the labels before it. */
export function parseLabel(text: string, before: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (key === undefined || value === undefined) {
    throw new InvalidArgumentError("It must be KEY=VALUE.");
  }
  return { ...before, [key]: value };
}

/** A UUID, for `--request-id`. */
export function parseRequestId(text: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) {
    throw new InvalidArgumentError("It must be a UUID.");
  }
  return text;
}

function bytesOfUnit(unit: string): bigint | undefined {
  const lower = unit.toLowerCase();
  if (lower === "") {
    return 1n;
  }
  for (const [names, step] of [
    [decimalPowers, 1_000n],
    [binaryPowers, 1_024n],
  ] as const) {
    const power = names.findIndex((name) => name.toLowerCase() === lower);
    if (power !== -1) {
      return step ** BigInt(power);
    }
  }
  return undefined;
}

/** A time as RFC 3339 has it. Its offset from UTC is never left out, as that would mean another time elsewhere. */
export function parseTime(text: string): Date {
  const form = /^(\d{4})-(\d\d)-(\d\d)T\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/;
  const [, year, month, day] = form.exec(text) ?? [];
  const time = new Date(text);
  // Date takes the 30th of February for the 2nd of March.
  const lastDay = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  if (year === undefined || Number.isNaN(time.getTime()) || Number(day) > lastDay) {
    throw new InvalidArgumentError("It must be a time such as 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00.");
  }
  return time;
}
