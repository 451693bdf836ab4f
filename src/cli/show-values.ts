/** Owns how money, sizes, times and enum values are shown to people. */
import type { DescEnum } from "@bufbuild/protobuf";
import { type Duration, type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

/** `10.000000 USD`: exact, and of one form. */
export function showDollars(micros: bigint): string {
  const digits = (micros < 0n ? -micros : micros).toString().padStart(7, "0");
  return `${micros < 0n ? "-" : ""}${digits.slice(0, -6)}.${digits.slice(-6)} USD`;
}

/** `1.5 MiB`, rounded to one place. */
export function showBytes(bytes: bigint): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let size = Number(bytes);
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${bytes} bytes` : `${size.toFixed(1)} ${units[unit]}`;
}

/** ISO 8601 to the second, in UTC; empty if unset. */
export function showTime(time: Timestamp | undefined): string {
  return time === undefined
    ? ""
    : timestampDate(time)
        .toISOString()
        .replace(/\.\d+Z$/, "Z");
}

/** `1d 12h`: exact to the second. */
export function showDuration(duration: Duration | undefined): string {
  let seconds = duration?.seconds ?? 0n;
  const parts: string[] = [];
  for (const [unit, size] of [
    ["d", 86_400n],
    ["h", 3_600n],
    ["m", 60n],
    ["s", 1n],
  ] as const) {
    if (seconds >= size) {
      parts.push(`${seconds / size}${unit}`);
      seconds %= size;
    }
  }
  return parts.length === 0 ? "0s" : parts.join(" ");
}

/** `active` for STATE_ACTIVE: an enum value without its prefix. */
export function showEnum(descriptor: DescEnum, value: number): string {
  const known = descriptor.value[value];
  return known === undefined ? `${value}` : known.localName.toLowerCase().replaceAll("_", " ");
}
