/** What the demo prints, and how it insists on what was promised. */

/** Prints one line of the story. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Stops the demo unless something is as promised. */
export function require(isTrue: boolean, promise: string): void {
  if (!isTrue) {
    throw new Error(`not as promised: ${promise}`);
  }
  say(`  ok: ${promise}`);
}
