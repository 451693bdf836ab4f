/** Owns the shape of one row in the table of settings. */
import { join } from "node:path";
import type { SettingKind } from "./setting-kind.ts";

/** One row of the table. */
export interface Setting<Key extends string, Value, Default> {
  /** The environment variable. */
  readonly variable: string;
  /** The value's name in Config. */
  readonly key: Key;
  readonly kind: SettingKind<Value>;
  /** Undefined: the setting may stay unset, and `whenUnset` says what that means. */
  readonly default: Default;
  readonly whenUnset?: string;
  /** What a number counts. */
  readonly unit?: "bytes" | "seconds" | "micro-dollars" | "connections" | "streams";
  /** Who reads it: the servers and sweepers, or the commands that call them. */
  readonly audience: "server" | "client";
  /** One sentence. */
  readonly description: string;
}

/** A default that is a place in the data folder. */
export interface InDataDir {
  readonly inDataDir: string;
}

/** Makes a row; the default's type is tied to the kind's. */
export function setting<const Key extends string, Value, const Default extends NoInfer<Value> | InDataDir | undefined>(
  row: Setting<Key, Value, Default>,
): Setting<Key, Value, Default> {
  return row;
}

/** Names a place in the data folder as a default. */
export function inDataDir(name: string): InDataDir {
  return { inDataDir: name };
}

export function isInDataDir(value: unknown): value is InDataDir {
  return typeof value === "object" && value !== null && "inDataDir" in value;
}

/** The path that such a default stands for. */
export function placeInDataDir(place: InDataDir, dataDir: string): string {
  return join(dataDir, place.inDataDir);
}
