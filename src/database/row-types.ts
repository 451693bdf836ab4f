/** How column values become JavaScript values: bigint for int8, microseconds for timestamptz, Buffer for bytea. */

declare const databaseTime: unique symbol;

/** A time of the database, in microseconds since the Unix epoch. Only ever made by the database's clock. */
export type DatabaseTime = bigint & { readonly [databaseTime]: true };

const oids = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  json: 114,
  timestamptz: 1184,
  numeric: 1700,
  jsonb: 3802,
};

/** Parsers by type oid, for node-postgres in text mode (its binary mode corrupts bytea). Other types stay text. */
const parsers: ReadonlyMap<number, (text: string) => unknown> = new Map<number, (text: string) => unknown>([
  [oids.bool, (text) => text === "t"],
  [oids.bytea, (text) => Buffer.from(text.slice(2), "hex")],
  [oids.int8, (text) => BigInt(text)],
  [oids.int2, Number],
  [oids.int4, Number],
  [oids.json, (text) => JSON.parse(text)],
  [oids.jsonb, (text) => JSON.parse(text)],
  [oids.numeric, (text) => BigInt(text)],
  [oids.timestamptz, parseDatabaseTime],
]);

/** The type table that every statement runs with, whatever else is set on the connection. */
export const rowTypes = {
  getTypeParser: (oid: number): ((text: string) => unknown) => parsers.get(oid) ?? String,
};

/**
 * Reads a timestamptz as Postgres prints it with time zone UTC and DateStyle ISO: `2026-11-24 23:05:48.123456+00`.
 *
 * @throws RangeError if the connection prints times otherwise.
 */
export function parseDatabaseTime(text: string): DatabaseTime {
  const parts = /^(\d{4,6}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00$/.exec(text);
  if (parts === null) {
    throw new RangeError(`not a UTC timestamp: ${text}`);
  }
  const seconds = Date.parse(`${parts[1]}T${parts[2]}Z`) / 1000;
  return (BigInt(seconds) * 1_000_000n + BigInt((parts[3] ?? "").padEnd(6, "0"))) as DatabaseTime;
}

/** The parameter form of a database time. */
export function databaseTimeParameter(time: DatabaseTime): string {
  const seconds = time / 1_000_000n;
  return `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}.${(time % 1_000_000n).toString().padStart(6, "0")}Z`;
}
