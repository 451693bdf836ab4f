/** Owns how money, sizes, times, enum values and strangers' text are shown to people. */
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

/** `key=value key=value`, in order of the keys. */
export function showPairs(pairs: Readonly<Record<string, string>>): string {
  return Object.entries(pairs)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${showText(value)}`)
    .join(" ");
}

/** A stranger's text on one line, with what would move the cursor or only change how the rest is displayed made visible. */
export function showText(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16) ?? ""}}`,
  );
}

/** A body as text, if it is UTF-8 that shows as it is: no control characters but the ends of lines and tabs. */
export function printableText(body: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(body).replaceAll("\r\n", "\n");
    return /(?![\n\t])\p{Cc}/u.test(text) ? undefined : text;
  } catch (error) {
    if (error instanceof TypeError) {
      return undefined;
    }
    throw error;
  }
}

/** The beginning of a body on one line, or how large it is if it is no text. */
export function showPreview(body: Uint8Array, characters = 40): string {
  // No character takes more than four bytes. One that is cut at the end shows as no character.
  const text =
    printableText(body) === undefined ? undefined : new TextDecoder().decode(body.subarray(0, characters * 4));
  if (text === undefined) {
    return `(${showBytes(BigInt(body.length))})`;
  }
  const line = showText(text.replaceAll(/\s+/g, " ").trim());
  return line.length > characters ? `${line.slice(0, characters - 1)}…` : line;
}
