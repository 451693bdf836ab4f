// Runs every `check:` script of package.json, in its order, and names those that fail.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const { scripts } = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as { scripts: Record<string, string> };
const failed: string[] = [];
for (const name of Object.keys(scripts).filter((script) => script.startsWith("check:"))) {
  const startMs = performance.now();
  const ok = run(name);
  console.log(`${ok ? "ok  " : "FAIL"} ${name} (${((performance.now() - startMs) / 1000).toFixed(1)} s)`);
  if (!ok) failed.push(name);
}
if (failed.length > 0) {
  console.error(`Failed: ${failed.join(", ")}. Run one alone with \`npm run NAME\`.`);
  process.exitCode = 1;
}

/** Runs a script of package.json and shows what it printed only when it failed. */
function run(script: string): boolean {
  const { error, status, stdout, stderr } = spawnSync(process.execPath, ["--run", script], {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error) throw error;
  if (status !== 0) console.error(`${stdout}${stderr}`.trim());
  return status === 0;
}
