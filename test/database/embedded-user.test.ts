/** Tests whom Postgres runs as, under root and under a plain user. Only root can try both, and only Linux shows it in /proc. */
import { chmod, chown, mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { startEmbeddedPostgres } from "../../src/database/embedded/start-embedded-postgres.ts";
import { ask, makeDataDir, Parent } from "./embedded-folder.ts";

const isRoot = process.getuid?.() === 0 && process.platform === "linux";
/** The user `nobody`, whom every system has. */
const plain = { uid: 65_534, gid: 65_534 };

describe.runIf(isRoot)("under root", () => {
  test("a data folder that only root may enter is opened far enough for Postgres to pass, and for nobody to look", async () => {
    const dataDir = await makeDataDir();
    await chmod(dataDir, 0o700);
    const postgres = await startEmbeddedPostgres({ dataDir, log: () => undefined });
    expect(await ask(postgres.url, "select 1")).toBe(1);
    expect((await stat(dataDir)).mode & 0o777).toBe(0o701);
    const { uid } = await stat(join(dataDir, "postgres", "data"));
    expect(uid).not.toBe(0);
    expect(await ownerOf(postgres.pid)).toBe(uid);
    await postgres.stop();

    const parent = new Parent(dataDir, plain);
    await expect(parent.hear("ready")).rejects.toThrow(/Cannot use LEASEHOLD_DATA_DIR \S+: EACCES: permission denied/);
  });

  test("a data folder inside one that only root may enter is refused with one line that names that one", async () => {
    const outer = await makeDataDir();
    await chmod(outer, 0o700);
    const dataDir = join(outer, "inner");
    await expect(startEmbeddedPostgres({ dataDir, log: () => undefined })).rejects.toMatchObject({
      name: "EmbeddedPostgresError",
      message: expect.stringMatching(
        new RegExp(
          `^Postgres runs as user postgres \\(uid \\d+\\), who cannot enter ${outer}: ` +
            "set LEASEHOLD_DATA_DIR to a folder that user can reach, or start as a plain user$",
        ),
      ),
    });
    expect((await stat(outer)).mode & 0o777).toBe(0o700);
  });

  test("a plain user's Postgres runs as that user, also when root starts it, and the user can go on using it", async () => {
    const dataDir = await makePlainDataDir();
    const before = new Parent(dataDir, plain);
    const { url, pid } = await before.hear("ready");
    expect(await ownerOf(pid)).toBe(plain.uid);
    const { uid, mode } = await stat(join(dataDir, "postgres"));
    expect([uid, mode & 0o777]).toEqual([plain.uid, 0o700]);
    await ask(url, "create table kept as select 1 as one");
    before.tell({ kind: "stop" });
    await before.hear("stopped");

    const asRoot = await startEmbeddedPostgres({ dataDir, log: () => undefined });
    expect(await ask(asRoot.url, "select one from kept")).toBe(1);
    expect(await ownerOf(asRoot.pid)).toBe(plain.uid);
    await asRoot.stop();

    const after = new Parent(dataDir, plain);
    expect(await ask((await after.hear("ready")).url, "select one from kept")).toBe(1);
    after.tell({ kind: "stop" });
    await after.hear("stopped");
  });
});

describe.runIf(isRoot)("under a plain user", () => {
  test("a database of another user is refused with one line that says whose it is", async () => {
    const dataDir = await makePlainDataDir();
    const data = join(dataDir, "postgres", "data");
    await mkdir(data, { recursive: true });
    await writeFile(join(data, "PG_VERSION"), "18\n");
    await chmod(join(dataDir, "postgres"), 0o777);
    const parent = new Parent(dataDir, plain);
    await expect(parent.hear("ready")).rejects.toThrow(`${data} belongs to another user (uid 0)`);
  });
});

/** The user that a process runs as. */
async function ownerOf(pid: number): Promise<number> {
  return (await stat(`/proc/${pid}`)).uid;
}

/** A folder that only the plain user can enter. */
async function makePlainDataDir(): Promise<string> {
  const dataDir = await makeDataDir();
  await chown(dataDir, plain.uid, plain.gid);
  return dataDir;
}
