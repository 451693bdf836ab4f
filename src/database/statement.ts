/** One SQL statement with a name: prepared once per connection, and run in one round trip. */

/** A prepared statement whose rows have the shape Row. */
export interface Statement<Row> {
  /** Unique in the process: the name it is prepared under. */
  readonly name: string;
  readonly text: string;
  /** Whether a lost answer leaves it unknown if something was changed. */
  readonly writes: boolean;
  /** Carries the type of a row. Never set. */
  readonly row?: Row;
}

/** Defines a statement that changes nothing. */
export function readStatement<Row>(name: string, text: string): Statement<Row> {
  return { name, text, writes: false };
}

/** Defines a statement that may change rows. */
export function writeStatement<Row>(name: string, text: string): Statement<Row> {
  return { name, text, writes: true };
}
