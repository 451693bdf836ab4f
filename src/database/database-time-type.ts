/** The type of timestamptz columns in entities: the same microseconds that statements return. */
import { Type } from "@mikro-orm/core";
import { type DatabaseTime, databaseTimeParameter, parseDatabaseTime } from "./row-types.ts";

/** Keeps what a Date would cut off: a listed row shows the same time as one that a statement returned. */
export class DatabaseTimeType extends Type<DatabaseTime | null, string | null> {
  override convertToJSValue(value: string | null): DatabaseTime | null {
    return value === null ? null : parseDatabaseTime(value);
  }

  override convertToDatabaseValue(value: DatabaseTime | null): string | null {
    return value === null ? null : databaseTimeParameter(value);
  }

  /** Without a type of its own to compare as, a timestamptz is made a Date before it gets here. */
  override compareAsType(): string {
    return "bigint";
  }

  override getColumnType(): string {
    return "timestamptz";
  }
}
