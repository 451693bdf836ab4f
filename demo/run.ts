/** The demo: the main job on a real file, with a server of its own, two agents in processes of their own, and a bad network. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { LedgerEntry_Kind } from "#gen/leasehold/v1/account_pb.js";
import { Lease_EndReason, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { showBytes, showDollars } from "../src/cli/show-values.ts";
import { type Connection, connect } from "../src/client/connection.ts";
import { runAgent } from "./agents.ts";
import { tellCron } from "./cron.ts";
import { CuttingProxy } from "./cutting-proxy.ts";
import { DemoServer } from "./demo-server.ts";
import { tellMailbox } from "./mailbox.ts";
import { require, say } from "./output.ts";
import { recordInReadme, startRecording } from "./recording.ts";
import { tellScratchpad } from "./scratchpad.ts";
import { tellWorkflow } from "./workflow.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

const { values, positionals } = parseArgs({ allowPositionals: true, options: { record: { type: "boolean" } } });
const recorded = values.record === true ? startRecording() : undefined;
await runDemo(positionals[0] ?? process.execPath);
if (recorded !== undefined) {
  recordInReadme(join(root, "README.md"), recorded());
}

async function runDemo(file: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-demo-"));
  const server = await DemoServer.start();
  try {
    await tell(server, file, join(folder, "received"));
  } finally {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
  say("\nAll as promised.");
}

/** What the first agent leaves behind. */
interface Sent {
  readonly leaseId: string;
  readonly claimToken: string;
}

async function tell(server: DemoServer, file: string, received: string): Promise<void> {
  const sizeBytes = (await stat(file)).size;
  const connection = connect({ url: server.httpUrl, bearer: server.apiKey });
  const proxy = await CuttingProxy.open(server.httpPort);
  try {
    say(
      `1. An agent leases room for a file of ${showBytes(BigInt(sizeBytes))} and uploads it. Half way, its connection breaks.`,
    );
    proxy.cutOnce({ direction: "up", afterBytes: Math.ceil(sizeBytes / 2) });
    const sent = await runAgent<Sent>("sender.ts", [proxy.url, server.apiKey, file]);
    const { leaseId = "", claimToken = "" } = sent ?? {};
    say("  issued a token for one claim, after which the lease ends; then the agent's process ended");

    say(
      "\n2. Another agent, without an account, looks at the token and takes the file. Half way, its connection breaks.",
    );
    proxy.cutOnce({ direction: "down", afterBytes: Math.ceil(sizeBytes / 2) });
    await runAgent("receiver.ts", [proxy.url, claimToken, received]);
    require((await sha256Of(received)) === (await sha256Of(file)), "the second agent has exactly those bytes");

    say("\n3. The lease is gone.");
    await requireGone(server, leaseId, claimToken);
    const { lease } = await connection.leases.getLease({ leaseId });
    require(lease?.endReason === Lease_EndReason.LAST_CLAIM &&
      lease.destroyTime !== undefined, "it ended with its last claim, and its content is destroyed");
  } finally {
    await proxy.close();
  }

  say("\n4. A lease of two seconds ends by itself.");
  await letExpire(server, connection);

  say("\n5. A worker saves where it is after each part of the file. It is killed, and another carries on.");
  await tellWorkflow(server, connection, file);

  say("\n6. Three senders that nobody knows fill a mailbox, and its owner drains it.");
  await tellMailbox(connection);

  say("\n7. Three workers that know nothing of each other share a scratchpad.");
  await tellScratchpad(server, connection, file);

  say("\n8. A worker sleeps at a mailbox, and a schedule wakes it.");
  await tellCron(server, connection);

  say("\n9. The ledger.");
  await showLedger(connection);
}

async function requireGone(server: DemoServer, leaseId: string, claimToken: string): Promise<void> {
  const claim = await fetch(`${server.httpUrl}/api/claim/${claimToken}`, { method: "POST" });
  require(claim.status === 410, `the token answers ${claim.status} (gone)`);
  const content = await server.getContent(leaseId);
  require(content.status === 410, `its owner gets ${content.status} (gone)`);
}

async function letExpire(server: DemoServer, connection: Connection): Promise<void> {
  const body = Buffer.from("gone in two seconds");
  const { lease } = await connection.leases.createLease({
    sizeBytes: BigInt(body.length),
    duration: { seconds: 2n },
    variant: { case: "storage", value: { fileName: "brief.txt", contentType: "text/plain" } },
  });
  const leaseId = lease?.leaseId ?? "";
  await connection.leases.uploadContentPart({ leaseId, data: body, finish: true });
  require((await (await server.getContent(leaseId)).text()) === body.toString(), "it can be read while it lasts");
  for (;;) {
    const { lease: now } = await connection.leases.getLease({ leaseId });
    if (now?.state === Lease_State.EXPIRED && now.destroyTime !== undefined) {
      require(now.endReason ===
        Lease_EndReason.DURATION_ELAPSED, "its duration was over, and the sweeper destroyed its content");
      break;
    }
    await delay(100);
  }
  const { status } = await server.getContent(leaseId);
  require(status === 410, `reading it now gets ${status} (gone)`);
}

async function showLedger(connection: Connection): Promise<void> {
  const { entries } = await connection.accounts.listLedgerEntries({});
  for (const entry of entries) {
    say(
      `  ${showDollars(entry.amountMicros).padStart(14)} ${LedgerEntry_Kind[entry.kind].toLowerCase().padEnd(7)} -> ${showDollars(entry.balanceAfterMicros)} ${entry.leaseId}`.trimEnd(),
    );
  }
  const { account } = await connection.accounts.getAccount({});
  const sum = entries.reduce((total, entry) => total + entry.amountMicros, 0n);
  require(sum === account?.balanceMicros, "the entries add up to the balance");
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) {
    hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}
