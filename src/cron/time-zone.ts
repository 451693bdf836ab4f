/** Time zones: which names there are, and how far each is from UTC. */
import { CronDate } from "croner";
import { invalidField } from "../errors/leasehold-error.ts";

/**
 * The one spelling of each zone that was asked for, by the name as it was asked for in small letters: the formatters
 * behind the zones are kept for ever by their spelling, of which any caller could make thousands.
 */
const spellings = new Map<string, string>();

/** @throws LeaseholdError INVALID_FIELD. */
export function requireZone(timeZone: string, field: string): void {
  try {
    // Offsets such as "+01" are taken too, and are no names: they know of no clock change.
    if (/^[A-Za-z]/.test(timeZone)) {
      spellingOf(timeZone);
      return;
    }
  } catch {
    // Unknown, as the error below says.
  }
  throw invalidField(field, "must be the IANA name of a time zone, such as Europe/Berlin");
}

/** How a zone is named to whatever reckons with it. */
export function spellingOf(timeZone: string): string {
  const name = timeZone.toLowerCase();
  const known = spellings.get(name);
  if (known !== undefined) {
    return known;
  }
  const spelling = new Intl.DateTimeFormat("en", { timeZone }).resolvedOptions().timeZone;
  spellings.set(name, spelling);
  return spelling;
}

/** How far a zone is ahead of UTC at a time of whole seconds, all in milliseconds. */
export function offsetMs(timeMs: number, timeZone: string): number {
  const { year, month, day, hour, minute, second } = new CronDate(new Date(timeMs), spellingOf(timeZone));
  return Date.UTC(year, month, day, hour, minute, second) - timeMs;
}

/** The first second, between two of them, at which the clock has been changed. */
export function clockChangeMs(fromMs: number, toMs: number, timeZone: string): number {
  const before = offsetMs(fromMs, timeZone);
  let [low, high] = [fromMs / 1000, toMs / 1000];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (offsetMs(middle * 1000, timeZone) === before) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return high * 1000;
}
