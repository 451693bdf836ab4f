/** Design 11: database and key folder know each other; what does not fit refuses the start with one line that says why. */
import { chmod, copyFile, cp, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openCore } from "../../src/app.ts";
import type { Database } from "../../src/database/database.ts";
import { openKeyFolder } from "../../src/installation/installation.ts";
import { endDueLeases } from "../../src/lease/lease-statements.ts";
import { epochBefore, leaseRow, moveToEpoch } from "../support/epochs.ts";
import { ServerProcess } from "../support/server-process.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { testDatabase } from "../support/test-database.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const { keysDir, epochSeconds } = leasehold.core.config;
const [other, older, empty] = [await testDatabase(), await testDatabase(), await testDatabase()];
let live = "";
let liveEpoch = 0n;
beforeAll(async () => {
  live = (await tenant.store(Buffer.from("still here"))).leaseId;
  liveEpoch = (await leaseRow(leasehold, live)).epoch_seconds;
});

/** A copy of the key folder, to be spoilt. */
async function copiedKeys(): Promise<string> {
  const folder = join(await temporaryFolder(), "keys");
  await cp(keysDir, folder, { recursive: true });
  await chmod(folder, 0o700);
  return folder;
}

/** The key folder of the other database. */
async function otherInstallation(): Promise<string> {
  const folder = join(await temporaryFolder(), "keys");
  await openWith(folder, other);
  return folder;
}

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-installation-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function openWith(keys: string, database: Database = leasehold.database) {
  return await openKeyFolder(database, { keysDir: keys, epochSeconds });
}

/** What a start is refused with. */
async function refusal(keys: string, database?: Database): Promise<{ reason: string; message: string }> {
  const error: unknown = await openWith(keys, database).then(
    () => expect.fail("the folder was opened"),
    (reason: unknown) => reason,
  );
  const { reason, message } = error as { reason: string; message: string };
  expect(message).not.toContain("\n");
  expect(message).toContain(keys);
  return { reason, message };
}

test("the folder that belongs to the database is opened, by as many processes as there are", async () => {
  const folders = await Promise.all([1, 2, 3].map(() => openWith(keysDir)));
  expect(new Set(folders.map(({ installationId }) => installationId)).size).toBe(1);
});

describe("a start is refused", () => {
  test("over a folder of another installation", async () => {
    const otherKeys = await otherInstallation();
    expect((await refusal(otherKeys)).reason).toBe("FOLDER_FOREIGN");
    expect((await refusal(keysDir, other)).reason).toBe("FOLDER_FOREIGN");
  });

  test("over a folder into which another installation's key was copied", async () => {
    const otherKeys = await otherInstallation();
    const keys = await copiedKeys();
    await (await openWith(otherKeys, other)).epochKey(Number(liveEpoch));
    await copyFile(join(otherKeys, `epoch-${liveEpoch}.key`), join(keys, `epoch-${liveEpoch}.key`));
    expect(await openWith(keys).catch((error: unknown) => error)).toMatchObject({ reason: "FOLDER_FOREIGN" });
  });

  test("over no folder, while a lease needs one, and none is made", async () => {
    const parent = await temporaryFolder();
    expect((await refusal(join(parent, "keys"))).reason).toBe("FOLDER_MISSING");
    expect(await readdir(parent)).toEqual([]);
  });

  test("while the key of an unexpired lease is missing, and names its file", async () => {
    const keys = await copiedKeys();
    await rename(join(keys, `epoch-${liveEpoch}.key`), join(keys, "mislaid"));
    const { reason, message } = await refusal(keys);
    expect(reason).toBe("KEY_MISSING");
    expect(message).toContain(`epoch-${liveEpoch}.key`);
  });

  test("while another key is in the place of an unexpired lease's", async () => {
    const keys = await copiedKeys();
    await rm(join(keys, `epoch-${liveEpoch}.key`));
    await restoreInto(empty, ["lease"]);
    await (await openWith(keys, empty)).epochKey(Number(liveEpoch));
    expect((await refusal(keys)).reason).toBe("KEY_REPLACED");
  });

  test("while a key that was destroyed is back, and names its file", async () => {
    const over = await epochBefore(leasehold, 4);
    await leasehold.core.keyFolder.epochKey(over);
    const keys = await copiedKeys();
    await leasehold.sweep();
    const { reason, message } = await refusal(keys);
    expect(reason).toBe("KEY_IS_BACK");
    expect(message).toContain(`epoch-${over}.key`);
    await rm(join(keys, `epoch-${over}.key`));
    await openWith(keys);
  });

  test("over a folder that others may enter", async () => {
    const keys = await copiedKeys();
    await chmod(keys, 0o750);
    expect((await refusal(keys)).reason).toBe("FOLDER_EXPOSED");
  });

  test("with another epoch length than the folder's", async () => {
    const opened = openKeyFolder(leasehold.database, { keysDir, epochSeconds: epochSeconds + 1 });
    await expect(opened).rejects.toMatchObject({ reason: "EPOCH_LENGTH_DIFFERS" });
  });

  test("of `leasehold serve` likewise: it ends, with one line that names what is wrong", async () => {
    const otherKeys = await otherInstallation();
    const start = ServerProcess.start({
      databaseUrl: leasehold.databaseUrl,
      dataDir: leasehold.core.config.dataDir,
      settings: { LEASEHOLD_KEYS_DIR: otherKeys },
    });
    await expect(start).rejects.toThrow(/"kind":"failed","message":"[^"\n]*belongs to installation [^"\n]*"/);
  });
});

test("a lease that has ended needs no key: its folder may be missing one, and the start goes on", async () => {
  const keys = await copiedKeys();
  const { leaseId } = await tenant.store(Buffer.from("over"), { duration: { seconds: 864_000n } });
  const { epoch_seconds: epoch } = await leaseRow(leasehold, leaseId);
  await expect(openWith(keys)).rejects.toMatchObject({ reason: "KEY_MISSING" });
  await tenant.age(leaseId, 864_000);
  await openWith(keys);
  expect(await readdir(keys)).not.toContain(`epoch-${epoch}.key`);
});

test("an older database starts with the current folder: what lives is readable, what has ended since stays unreadable", async () => {
  const over = await epochBefore(leasehold, 3);
  const { leaseId } = await tenant.store(Buffer.from("ended since"));
  await moveToEpoch(leasehold, leaseId, over);
  await restoreInto(older);
  const rowThen = await leaseRow(leasehold, leaseId);
  await leasehold.database.run(endDueLeases, [tenant.ownerId, [leaseUuid(leaseId)]]);
  await leasehold.sweep();
  const core = await openCore(leasehold.core.config, older, pino({ level: "silent" }));
  await expect(core.seals.keyOf(rowThen)).rejects.toMatchObject({ reason: "KEY_MISSING" });
  expect(await core.seals.keyOf(await leaseRow(leasehold, live))).toHaveLength(32);
  const [mark] = await query<{ mark: bigint }>(older, "select destroyed_through_seconds as mark from installation");
  expect(Number(mark?.mark)).toBeLessThan(over);
});

/** Copies what the database holds now into an empty one, as a restored dump would, but for some tables. */
async function restoreInto(target: Database, without: readonly string[] = []): Promise<void> {
  const tables = await query<{ name: string }>(
    target,
    "select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> all($1)",
    [["migration", ...without]],
  );
  for (const { name } of tables) {
    const [rows] = await query<{ rows: unknown }>(
      leasehold.database,
      `select coalesce(json_agg(t), '[]') as rows from "${name}" as t`,
    );
    await query(target, `delete from "${name}"`);
    await query(target, `insert into "${name}" select * from json_populate_recordset(null::"${name}", $1)`, [
      JSON.stringify(rows?.rows),
    ]);
  }
}
