import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { snippetsOf } from "../../docs/snippets.ts";
import { TestLeasehold } from "../../support/test-leasehold.ts";

const root = resolve(import.meta.dirname, "../../..");
const leasehold = await TestLeasehold.start();
const account = await leasehold.account();

const folder = await mkdtemp(join(tmpdir(), "leasehold-langgraph-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

test("the README's program runs in a project beside the checkout", async () => {
  const project = join(folder, "project");
  await mkdir(join(project, "node_modules"), { recursive: true });
  await symlink(root, join(folder, "leasehold"));
  for (const name of ["@connectrpc", "@langchain"]) {
    await symlink(join(root, "node_modules", name), join(project, "node_modules", name));
  }
  await writeFile(join(project, "package.json"), '{"type": "module"}\n');
  const snippets = snippetsOf(join(root, "integrations/langgraph/README.md"));
  expect(snippets.map(({ language }) => language)).toEqual(["ts"]);
  await writeFile(join(project, "program.ts"), snippets[0]?.code ?? "");
  const { stdout } = await promisify(execFile)(process.execPath, ["program.ts"], {
    cwd: project,
    env: { ...process.env, LEASEHOLD_URL: leasehold.httpUrl, LEASEHOLD_API_KEY: account.apiKey },
  });
  expect(stdout).toBe("hello from a lease\n");
});
