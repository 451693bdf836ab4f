/** The fenced snippets of Markdown files. */
import { readFileSync } from "node:fs";

/** One fenced block. */
export interface Snippet {
  readonly file: string;
  readonly line: number;
  readonly language: string;
  readonly code: string;
}

/** Every fenced block of a Markdown file, in order. */
export function snippetsOf(file: string): Snippet[] {
  const found: Snippet[] = [];
  const text = readFileSync(file, "utf8");
  for (const match of text.matchAll(/^```(\w*)\n(.*?)^```$/gms)) {
    const line = text.slice(0, match.index).split("\n").length;
    found.push({ file, line, language: match[1] ?? "", code: match[2] ?? "" });
  }
  return found;
}
