// Fails when gen/ is not what the schemas generate now.
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generate } from "./generate.ts";

const committed = fileURLToPath(new URL("../gen", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "leasehold-gen-"));
try {
  generate(scratch);
  const stale = findDifferences(committed, join(scratch, "gen"));
  if (stale.length > 0) {
    console.error(`gen/ is stale: run \`npm run generate\`. Differs in:\n${stale.join("\n")}`);
    process.exitCode = 1;
  }
} finally {
  rmSync(scratch, { recursive: true });
}

/** Paths of files that only one folder has, or that hold other bytes. */
function findDifferences(left: string, right: string): string[] {
  const names = new Set([left, right].flatMap((folder) => globSync("**/*.*", { cwd: folder })));
  return [...names].sort().filter((name) => !holdSame(join(left, name), join(right, name)));
}

function holdSame(left: string, right: string): boolean {
  return existsSync(left) && existsSync(right) && readFileSync(left).equals(readFileSync(right));
}
