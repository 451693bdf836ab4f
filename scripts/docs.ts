/** Writes the parts of the documentation that are made from the code, or with --check says which are stale. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { renderSettingsMarkdown } from "../src/config/render-settings.ts";
import { errorsPage } from "./docs/errors-page.ts";
import { examplesTable } from "./docs/pricing-examples.ts";

/** Each page that has made parts, and its text with those parts made anew. */
export function madePages(): { readonly path: string; readonly text: string }[] {
  return [
    { path: "docs/errors.md", text: errorsPage(readFileSync("proto/leasehold/v1/error_reason.proto", "utf8")) },
    { path: "docs/pricing.md", text: withPart("docs/pricing.md", "pricing-examples", examplesTable()) },
    { path: "docs/operating.md", text: withPart("docs/operating.md", "settings", settingsTables()) },
  ];
}

function settingsTables(): string {
  return `${renderSettingsMarkdown("server")}\n\nFor clients (the command line):\n\n${renderSettingsMarkdown("client")}`;
}

function withPart(path: string, name: string, part: string): string {
  const begin = `<!-- ${name}:begin -->`;
  const end = `<!-- ${name}:end -->`;
  const text = readFileSync(path, "utf8");
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from < 0 || to < from) {
    throw new Error(`${path} has no part ${name}`);
  }
  return `${text.slice(0, from + begin.length)}\n\n${part.trim()}\n\n${text.slice(to)}`;
}

if (import.meta.main) {
  const stale = madePages().filter(({ path, text }) => !existsSync(path) || readFileSync(path, "utf8") !== text);
  if (process.argv.includes("--check")) {
    for (const { path } of stale) {
      console.error(`${path} is stale: run npm run docs`);
    }
    process.exitCode = stale.length > 0 ? 1 : 0;
  } else {
    for (const { path, text } of stale) {
      writeFileSync(path, text);
      console.log(`wrote ${path}`);
    }
  }
}
