import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { Database } from "../../src/database/database.ts";
import { startEmbeddedPostgres } from "../../src/database/embedded/start-embedded-postgres.ts";
import { makeDataDir } from "../database/embedded-folder.ts";
import { ServerProcess } from "../support/server-process.ts";
import { askFor, type LeaseInit } from "../support/tenant.ts";
import { adminToken } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { Dropper, messageUuid } from "./mail.ts";

const callers = 32;
const answersBeforeKill = 300;

test("a drop that was answered is there after Postgres was killed amid others and has recovered", {
  timeout: 60_000,
}, async () => {
  const dataDir = await makeDataDir();
  const doomed = await startEmbeddedPostgres({ dataDir, log: () => undefined });
  await withDatabase(doomed.url, (database) => database.migrate());
  await using server = await ServerProcess.start({ databaseUrl: doomed.url, dataDir });
  const dropToken = await openMailboxAt(server);
  const answered: string[] = [];
  const enough = Promise.withResolvers<void>();
  const dropper = new Dropper(server);
  const dropUntilRefused = async () => {
    for (;;) {
      const dropped = await dropper.drop(dropToken, { body: "kept" }).catch(() => undefined);
      if (dropped === undefined) {
        return;
      }
      answered.push(dropped.messageId);
      if (answered.length === answersBeforeKill) {
        enough.resolve();
      }
    }
  };
  const dropping = Array.from({ length: callers }, dropUntilRefused);
  await enough.promise;
  process.kill(await postmasterOf(dataDir), "SIGKILL");
  await Promise.all(dropping);
  await server.kill();
  await doomed.stop();
  const recovered = await startEmbeddedPostgres({ dataDir, log: () => undefined });
  const kept = await withDatabase(recovered.url, (database) =>
    query<{ message_id: string }>(database, "select message_id from message"),
  );
  await recovered.stop();
  const ids = new Set(kept.map(({ message_id }) => message_id));
  expect(ids.size).toBe(kept.length);
  expect(answered.filter((messageId) => !ids.has(messageUuid(messageId)))).toEqual([]);
});

async function openMailboxAt(server: ServerProcess): Promise<string> {
  const admin = server.client(AdminService, adminToken);
  const { account, apiKey } = await admin.createAccount({ name: "test" });
  await admin.creditAccount({ accountId: account?.accountId ?? "", amountMicros: 1_000_000n });
  const request = askFor({ variant: { case: "mailbox", value: {} } } as LeaseInit);
  return (await server.client(LeaseService, apiKey).createLease(request)).dropToken;
}

async function withDatabase<Result>(url: string, work: (database: Database) => Promise<Result>): Promise<Result> {
  const database = await Database.connect({ url, poolSize: 2 });
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

/** The process that is to be killed: Postgres of one data folder. */
async function postmasterOf(dataDir: string): Promise<number> {
  const lines = (await readFile(join(dataDir, "postgres", "data", "postmaster.pid"), "utf8")).split("\n");
  return Number(lines[0]);
}
