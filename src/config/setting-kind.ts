/** Owns the kinds of values a setting can have: how each is read from text, what it allows, and how it is shown. */
import { isIP } from "node:net";
import { resolve } from "node:path";

/** A kind of value. `allowed` completes the sentence "it must be ...". */
export interface SettingKind<Value> {
  readonly allowed: string;
  /** Kept out of every message. */
  readonly secret: boolean;
  /** Returns undefined for text that is not allowed. */
  parse(text: string): Value | undefined;
  /** The text that `parse` reads back as the same value. */
  format(value: Value): string;
}

/** A folder or file; a relative one is meant from the folder the program was started in. */
export const path: SettingKind<string> = {
  allowed: "a path",
  secret: false,
  parse: (text) => (text.includes("\0") ? undefined : resolve(text)),
  format: String,
};

/** An address or name to listen on. */
export const host: SettingKind<string> = {
  allowed: "an IP address or a host name",
  secret: false,
  parse: (text) => (isIP(text) !== 0 || /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(text) ? text : undefined),
  format: String,
};

/** A TCP port, or 0 for whichever is free. */
export const port: SettingKind<number> = wholeNumber(0, 65_535);

/** An http or https address without a trailing slash, query or fragment. */
export const httpUrl: SettingKind<string> = {
  allowed: "an http:// or https:// address without query and fragment",
  secret: false,
  parse: (text) => {
    const url = URL.parse(text);
    const isPlain = url !== null && url.search === "" && url.hash === "" && url.username === "" && url.password === "";
    return isPlain && ["http:", "https:"].includes(url.protocol) ? url.href.replace(/\/+$/, "") : undefined;
  },
  format: String,
};

/** The address of a Postgres; secret, as it holds a password. */
export const databaseUrl: SettingKind<string> = {
  allowed: "a postgres:// or postgresql:// address that names a database",
  secret: true,
  parse: (text) => {
    const url = URL.parse(text);
    const isPostgres = url !== null && ["postgres:", "postgresql:"].includes(url.protocol);
    return isPostgres && url.pathname.length > 1 ? text : undefined;
  },
  format: String,
};

/** A credential that fits in an `authorization: Bearer` header. */
export const secret: SettingKind<string> = {
  allowed: "printable ASCII characters without spaces",
  secret: true,
  parse: (text) => (/^[\x21-\x7e]+$/.test(text) ? text : undefined),
  format: String,
};

/** Yes or no. */
export const flag: SettingKind<boolean> = {
  allowed: "1 or 0 (or true or false)",
  secret: false,
  parse: (text) => ({ "1": true, true: true, "0": false, false: false })[text],
  format: (value) => (value ? "1" : "0"),
};

/** Web origins that browsers may call from: `*` alone means every one. */
export const origins: SettingKind<readonly string[]> = {
  allowed: "* or origins such as https://app.example, separated by commas",
  secret: false,
  parse: (text) => {
    const list = text.split(",").map((origin) => origin.trim());
    const isEvery = list.length === 1 && list[0] === "*";
    return isEvery || list.every(isOrigin) ? list : undefined;
  },
  format: (value) => value.join(","),
};

/** A whole number that the program counts with. */
export function wholeNumber(min: number, max: number): SettingKind<number> {
  return {
    allowed: `a whole number from ${min} to ${max}`,
    secret: false,
    parse: (text) => (/^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined),
    format: String,
  };
}

/** A whole number of bytes or micro-dollars, exact at any size. */
export function bigNumber(min: bigint, max: bigint): SettingKind<bigint> {
  return {
    allowed: `a whole number from ${min} to ${max}`,
    secret: false,
    parse: (text) => (/^\d{1,19}$/.test(text) && BigInt(text) >= min && BigInt(text) <= max ? BigInt(text) : undefined),
    format: String,
  };
}

/** A time span that only a process's own timers see, so fractions are allowed. */
export function timerSeconds(min: number, max: number): SettingKind<number> {
  return {
    allowed: `a number of seconds from ${min} to ${max}`,
    secret: false,
    parse: (text) =>
      /^\d{1,9}(\.\d{1,6})?$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined,
    format: String,
  };
}

/** One word of a fixed list. */
export function choice<const Word extends string>(words: readonly Word[]): SettingKind<Word> {
  return {
    allowed: `one of ${words.join(", ")}`,
    secret: false,
    parse: (text) => words.find((word) => word === text),
    format: String,
  };
}

function isOrigin(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && ["http:", "https:"].includes(url.protocol) && url.origin === text;
}
