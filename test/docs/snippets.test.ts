import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { type Snippet, snippetsOf } from "./snippets.ts";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../..");
const leasehold = await TestLeasehold.start();
const account = await leasehold.account();

/** A newcomer's folder, where the package is installed. */
const folder = await mkdtemp(join(tmpdir(), "leasehold-snippets-"));
afterAll(() => rm(folder, { recursive: true, force: true }));
await mkdir(join(folder, "node_modules", ".bin"), { recursive: true });
await symlink(root, join(folder, "node_modules", "leasehold"));
await symlink(join(root, "bin/leasehold.js"), join(folder, "node_modules", ".bin", "leasehold"));
for (const name of ["@bufbuild", "@connectrpc"]) {
  await symlink(join(root, "node_modules", name), join(folder, "node_modules", name));
}
await writeFile(join(folder, "README.md"), "a file to lease room for\n");
await writeFile(join(folder, "package.json"), '{"type": "module"}\n');

/** What the snippets before have printed: a later one may use an address that an earlier one showed. */
let printed = "";

/** Those that other tests run for real: they start servers of their own. */
const startsServers = /npm ci|npm start|leasehold (serve|sweep|migrate|dev)\b/;

const snippets = ["README.md", "docs/pricing.md", "docs/operating.md", "docs/testing.md"]
  .flatMap((file) => snippetsOf(join(root, file)))
  .filter((snippet) => ["sh", "ts"].includes(snippet.language) && !startsServers.test(snippet.code));

test("there are snippets in shell and in TypeScript", () => {
  expect(new Set(snippets.map((snippet) => snippet.language))).toEqual(new Set(["sh", "ts"]));
});

test.each(snippets.map((snippet) => [`${snippet.file.slice(root.length + 1)}:${snippet.line}`, snippet] as const))(
  "the snippet at %s runs as it stands",
  async (_, snippet) => {
    const output = await runSnippet(snippet);
    printed += output;
    if (snippet.code.includes("hello, later")) {
      expect(output).toContain("hello, later");
    }
  },
);

async function runSnippet(snippet: Snippet): Promise<string> {
  const file = snippet.language === "ts" ? "snippet.ts" : "snippet.sh";
  const program = snippet.language === "ts" ? process.execPath : "bash";
  const options = snippet.language === "ts" ? [] : ["-euo", "pipefail"];
  await writeFile(join(folder, file), snippet.code);
  const { stdout, stderr } = await run(program, [...options, file], {
    cwd: folder,
    env: {
      ...process.env,
      LEASEHOLD_URL: leasehold.httpUrl,
      LEASEHOLD_API_KEY: account.apiKey,
      CLAIM_URL: claimUrlIn(printed),
      // Where the command line remembers which lease of a workflow it writes to.
      XDG_STATE_HOME: join(folder, "state"),
    },
  });
  return stdout + stderr;
}

/** claim_url leads to the public address, which in this test is nobody's: the token counts. */
function claimUrlIn(text: string): string {
  const token = /lh_claim_\w+/.exec(text)?.[0] ?? "";
  return `${leasehold.httpUrl}/api/claim/${token}`;
}
