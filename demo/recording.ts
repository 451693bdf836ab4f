/** Keeps what the demo printed, and puts it into the README between its marks. */
import { readFileSync, writeFileSync } from "node:fs";

const begin = "<!-- demo:begin -->";
const end = "<!-- demo:end -->";

/** Starts to keep all that goes to standard output. Gives the text so far, each time it is called. */
export function startRecording(): () => string {
  const kept: string[] = [];
  const write = process.stdout.write.bind(process.stdout);
  process.stdout.write = (chunk: Uint8Array | string, ...rest: unknown[]): boolean => {
    kept.push(Buffer.from(chunk as string).toString("utf8"));
    return Reflect.apply(write, process.stdout, [chunk, ...rest]) as boolean;
  };
  return () => kept.join("");
}

/** Replaces the recorded output in a README. */
export function recordInReadme(path: string, output: string): void {
  const readme = readFileSync(path, "utf8");
  const from = readme.indexOf(begin);
  const to = readme.indexOf(end);
  if (from < 0 || to < from) {
    throw new Error(`${path} has no place for the demo's output`);
  }
  const block = `${begin}\n\n\`\`\`text\n$ npm run demo\n\n${output.trim()}\n\`\`\`\n\n`;
  writeFileSync(path, readme.slice(0, from) + block + readme.slice(to));
}
