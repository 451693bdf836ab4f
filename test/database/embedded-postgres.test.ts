/** Tests what the embedded Postgres promises to the process that starts it. */
import { chmod, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MikroORM } from "@mikro-orm/postgresql";
import { afterAll, describe, expect, test } from "vitest";
import { findProcess } from "../../src/database/embedded/process-table.ts";
import { startEmbeddedPostgres } from "../../src/database/embedded/start-embedded-postgres.ts";
import { ask, connect, makeDataDir, start } from "./embedded-folder.ts";

describe("while it runs", async () => {
  const dataDir = await makeDataDir(afterAll);
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => undefined });
  const { url } = postgres;
  afterAll(() => postgres.stop());

  test("it is a Postgres 18 with a database of the server's own", async () => {
    expect(await ask(url, "select current_setting('server_version')")).toMatch(/^18\./);
    expect(await ask(url, "select current_database()")).toBe("leasehold");
  });

  test("what it acknowledges is on disk", async () => {
    for (const name of ["fsync", "synchronous_commit", "full_page_writes", "data_checksums"]) {
      expect([name, await ask(url, `show ${name}`)]).toEqual([name, "on"]);
    }
  });

  test("it opens to its password only, which nobody else can read", async () => {
    const wrong = new URL(url);
    wrong.password = "guess";
    await expect(ask(wrong.href, "select 1")).rejects.toThrow("password authentication failed");
    expect((await stat(join(dataDir, "postgres", "password"))).mode & 0o777).toBe(0o600);
    expect((await stat(join(dataDir, "postgres", "data"))).mode & 0o777).toBe(0o700);
    expect((await stat(join(dataDir, "postgres", "sockets"))).mode & 0o777).toBe(0o700);
  });

  test("MikroORM connects by the same address", async () => {
    const orm = await MikroORM.init({ clientUrl: url, entities: [], discovery: { warnWhenNoEntities: false } });
    try {
      expect(await orm.em.getConnection().execute("select current_database() as name")).toEqual([
        { name: "leasehold" },
      ]);
    } finally {
      await orm.close();
    }
  });

  test("a failed statement leaves no value of a row in the log", async () => {
    await ask(url, "create table unique_word (word text unique)");
    await ask(url, "insert into unique_word values ('hush-hush')");
    await expect(ask(url, "insert into unique_word values ('hush-hush')")).rejects.toThrow("duplicate key");
    expect(await readFile(join(dataDir, "postgres", "server.log"), "utf8")).not.toContain("hush-hush");
  });

  test("it listens on no port, so an instance in another folder runs beside it", async () => {
    const other = await start(await makeDataDir());
    expect(await ask(url, "show listen_addresses")).toBe("");
    await ask(url, "create table mine ()");
    expect(await ask(other.url, "select to_regclass('mine')")).toBeNull();
  });

  test("a second start over the same folder fails with one line that names the holder", async () => {
    await expect(startEmbeddedPostgres({ dataDir, log: () => undefined })).rejects.toMatchObject({
      name: "EmbeddedPostgresError",
      message: `${join(dataDir, "postgres")} is in use by process ${process.pid}: stop that one first, or set another LEASEHOLD_DATA_DIR`,
    });
    expect(await ask(url, "select 1")).toBe(1);
  });
});

test("nothing of it runs any more once stop() has returned, connections or not, and a second start finds its data", async () => {
  const dataDir = await makeDataDir();
  const first = await startEmbeddedPostgres({ dataDir, log: () => undefined });
  const { url, pid, supervisorPid } = first;
  await ask(url, "create table kept as select 'still here' as word");
  const { cut } = await connect(url);
  await first.stop();
  await cut;
  expect(await findProcess(pid)).toBeUndefined();
  expect(await findProcess(supervisorPid)).toBeUndefined();
  await expect(ask(url, "select 1")).rejects.toThrow("ENOENT");

  const second = await start(dataDir);
  expect(second.url).toBe(url);
  expect(await ask(second.url, "select word from kept")).toBe("still here");
});

test("in a folder whose path is too long for a socket it listens on 127.0.0.1", async () => {
  const outer = await makeDataDir();
  await chmod(outer, 0o711);
  const dataDir = join(outer, "a-folder-with-a-long-name".repeat(6));
  const postgres = await start(dataDir);
  expect(new URL(postgres.url).hostname).toBe("127.0.0.1");
  expect(await ask(postgres.url, "show listen_addresses")).toBe("127.0.0.1");
  // Its folder is not the one that makeDataDir watches.
  await postgres.stop();
});

test("of two first starts at once over the same folder one wins, and the other fails with one line", async () => {
  const dataDir = await makeDataDir();
  const starts = await Promise.allSettled([start(dataDir), start(dataDir)]);
  const won = starts.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const lost = starts.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
  expect(won).toHaveLength(1);
  expect(lost).toHaveLength(1);
  expect(lost[0]).toMatchObject({ name: "EmbeddedPostgresError" });
  expect(lost[0]?.message).toContain("is in use by process");
  expect(await ask(won[0]?.url ?? "", "select 1")).toBe(1);
});

test("a first start that was killed half way is begun again from nothing", async () => {
  const dataDir = await makeDataDir();
  const { pid } = process;
  // This process is no supervisor, so what it seems to be making is taken for abandoned.
  const unfinished = join(dataDir, "postgres", `data.${pid}.unfinished`);
  await mkdir(unfinished, { recursive: true });
  await writeFile(join(unfinished, "PG_VERSION"), "18\n");
  const { url } = await start(dataDir);
  expect(await ask(url, "select 1")).toBe(1);
  expect((await readdir(join(dataDir, "postgres"))).sort()).toEqual(["data", "password", "server.log", "sockets"]);
});

test("a folder of another major version is refused with what to do, and left as it is", async () => {
  const dataDir = await makeDataDir();
  const data = join(dataDir, "postgres", "data");
  await mkdir(data, { recursive: true });
  await writeFile(join(data, "PG_VERSION"), "17\n");
  await expect(start(dataDir)).rejects.toThrow(
    `${data} was made by Postgres 17, this is 18: dump it there and restore it here`,
  );
  expect(await readdir(data)).toEqual(["PG_VERSION"]);
});

test("a lost password is named, and no new one is made up", async () => {
  const dataDir = await makeDataDir();
  const data = join(dataDir, "postgres", "data");
  await mkdir(data, { recursive: true });
  await writeFile(join(data, "PG_VERSION"), "18\n");
  await expect(start(dataDir)).rejects.toThrow(
    `${join(dataDir, "postgres", "password")} is missing: restore it together with ${data}`,
  );
});

test("a data folder that is a file is refused with one line", async () => {
  const file = join(await makeDataDir(), "file");
  await writeFile(file, "");
  await expect(startEmbeddedPostgres({ dataDir: file, log: () => undefined })).rejects.toMatchObject({
    name: "EmbeddedPostgresError",
    message: expect.stringMatching(new RegExp(`^Cannot use LEASEHOLD_DATA_DIR ${file}: EEXIST: [^\n]+$`)),
  });
});
