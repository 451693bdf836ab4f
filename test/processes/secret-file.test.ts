/** Tests that a secret in the data folder is one secret, whoever makes it, and its owner's alone. */
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ensureSecretFile, readSecretFile, replaceSecretFile } from "../../src/processes/secret-file.ts";
import { temporaryFolder } from "./temporary-data-dir.ts";

test("many that make a secret at once all get the same one", async () => {
  const folder = join(await temporaryFolder(), "data");
  const path = join(folder, "secret");
  const secrets = await Promise.all(Array.from({ length: 32 }, () => ensureSecretFile(path, randomUUID)));
  expect(new Set(secrets).size).toBe(1);
  expect(await readFile(path, "utf8")).toBe(`${secrets[0]}\n`);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(["secret"]);
});

test("one that another process makes in the same moment is kept", async () => {
  const path = join(await temporaryFolder(), "secret");
  const secret = await ensureSecretFile(path, () => {
    writeFileSync(path, "theirs\n");
    return "ours";
  });
  expect(secret).toBe("theirs");
  expect(await readSecretFile(path)).toBe("theirs");
});

test("one that is there is kept, and replaced only when that is asked for", async () => {
  const folder = await temporaryFolder();
  const path = join(folder, "secret");
  expect(await readSecretFile(path)).toBeUndefined();
  await writeFile(path, "first\n", { mode: 0o644 });
  expect(await ensureSecretFile(path, () => "second")).toBe("first");
  await replaceSecretFile(path, "third");
  expect(await readSecretFile(path)).toBe("third");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(["secret"]);
});
