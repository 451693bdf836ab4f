// Fails when a file says what this repository keeps out of its text.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

interface WordingRule {
  readonly name: string;
  /** Which files it reads, by path from the root. */
  readonly files: RegExp;
  readonly pattern: RegExp;
}

const rules: readonly WordingRule[] = [
  {
    name: "package registries are named by npm's configuration alone",
    files: /./,
    pattern:
      /\b(npmjs\.(org|com)|yarnpkg\.com|pypi\.org|pythonhosted\.org|crates\.io|proxy\.golang\.org|maven\.org)\b/i,
  },
  {
    name: "the lock file holds no download address",
    files: /^package-lock\.json$/,
    pattern: /"resolved": *"http/,
  },
  {
    name: "what all variants share names none of them",
    files: /^src\/(lease|handoff|sweeper|server)\//,
    pattern: /storage/i,
  },
  {
    // An override of this repository is no override where the package is installed.
    name: "em.transactional() loses a pool slot with the Kysely that an installed package gets",
    files: /^src\//,
    pattern: /\.transactional\(/,
  },
  {
    name: "findings are mended, not suppressed",
    files: /\.(ts|js)$/,
    pattern: /@ts-(ignore|expect-error|nocheck)\b|\bbiome-ignore\b/,
  },
];

const root = fileURLToPath(new URL("..", import.meta.url));
const listing = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
});
const findings = listing.split("\0").filter(Boolean).flatMap(checkFile);
if (findings.length > 0) {
  console.error(findings.join("\n"));
  process.exitCode = 1;
}

function checkFile(path: string): string[] {
  const applicable = rules.filter((rule) => rule.files.test(path) && !path.startsWith("gen/"));
  // A file that was deleted and not yet committed is still listed; this one spells out what it looks for.
  if (applicable.length === 0 || path === "scripts/check-wording.ts" || !existsSync(`${root}${path}`)) return [];
  return readFileSync(`${root}${path}`, "utf8")
    .split("\n")
    .flatMap((line, index) =>
      applicable
        .filter(({ pattern }) => pattern.test(line))
        .map(({ name }) => `${path}:${index + 1}: ${name}: ${line.trim()}`),
    );
}
