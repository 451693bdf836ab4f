/** Owns the error that says, in one line, why the embedded Postgres cannot run and what to do about it. */
export class EmbeddedPostgresError extends Error {
  override readonly name = "EmbeddedPostgresError";
}
