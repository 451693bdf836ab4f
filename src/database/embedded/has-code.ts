/** Owns the test of which failure of the operating system an error reports. */

/** Whether the error carries one of these codes, such as "ENOENT". */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string" && codes.includes(error.code);
}
