/** Issue 3: a webhook reaches no private address, by whatever name, unless the operator allows it. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { WebhookDelivery_State } from "#gen/leasehold/v1/mailbox_pb.js";
import { buildWebhookSender } from "../../src/app.ts";
import { receiverLookup } from "../../src/webhooks/webhook-lookup.ts";
import { WebhookPost } from "../../src/webhooks/webhook-post.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { AnnouncedMailbox } from "./webhook-receiver.ts";

const leasehold = await TestLeasehold.start();
const { PENDING } = WebhookDelivery_State;

/** Counts the connections to every address of this host. */
async function listening() {
  const seen = { connections: 0 };
  const server = createServer((socket) => {
    seen.connections += 1;
    socket.destroy();
  });
  server.listen(0, "::");
  await once(server, "listening");
  const address = server.address();
  return { seen, server, port: typeof address === "object" ? address?.port : undefined };
}

test("a private address is refused when it is connected to, by number and by name, and that is recorded", async () => {
  const { seen, server, port } = await listening();
  const hosts = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.0.1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[fd00::1]",
    "[fe80::1]",
    "localhost",
    "LOCALHOST",
  ];
  const urls = hosts.flatMap((host) => [`http://${host}:${port}/`, `https://${host}:${port}/`]);
  const mailboxes = await Promise.all(urls.map((url) => AnnouncedMailbox.open(leasehold, url)));
  await Promise.all(mailboxes.map((mailbox) => mailbox.drop("a")));
  await buildWebhookSender(leasehold.core).sendDue();
  for (const [place, mailbox] of mailboxes.entries()) {
    const refused = { state: PENDING, attemptCount: 1, lastStatus: 0, lastError: "the address is not public" };
    expect(await mailbox.entry(), urls[place]).toMatchObject(refused);
  }
  expect(seen.connections).toBe(0);
  server.close();
});

/** A name server that knows the addresses of the names it is given, says of others that there are none, or says nothing. */
async function nameServer(known: Readonly<Record<string, string>>, isSilent = false): Promise<string> {
  const server = createSocket("udp4");
  server.on("message", (question, { port, address }) => {
    if (isSilent) {
      return;
    }
    const labels: string[] = [];
    let at = 12;
    for (let length = question.readUInt8(at); length > 0; length = question.readUInt8(at)) {
      labels.push(question.toString("latin1", at + 1, at + 1 + length));
      at += 1 + length;
    }
    const asksForIpv4 = question.readUInt16BE(at + 1) === 1;
    const found = known[labels.join(".").toLowerCase()];
    const answer = Buffer.from(question.subarray(0, at + 5));
    answer.writeUInt16BE(found === undefined ? 0x8183 : 0x8180, 2);
    answer.writeUInt16BE(found !== undefined && asksForIpv4 ? 1 : 0, 6);
    answer.writeUInt32BE(0, 8);
    const record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...(found ?? "").split(".").map(Number)];
    const tail = found !== undefined && asksForIpv4 ? Buffer.from(record) : Buffer.alloc(0);
    server.send(Buffer.concat([answer, tail]), port, address);
  });
  server.bind(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return `127.0.0.1:${server.address().port}`;
}

/** Sends something to an address by a name server of the test's. */
async function sendTo(url: string, servers: readonly string[]) {
  const post = new WebhookPost(false, receiverLookup(servers));
  return await post.send(url, { headers: {}, body: Buffer.from("{}") }, AbortSignal.timeout(30_000));
}

test("a public name that leads to a private address is refused", async () => {
  const { seen, server, port } = await listening();
  const servers = [await nameServer({ "hooks.example.com": "127.0.0.1", "metadata.example.com": "169.254.169.254" })];
  for (const url of [
    `http://hooks.example.com:${port}/`,
    `https://hooks.example.com:${port}/`,
    "http://metadata.example.com/",
  ]) {
    expect(await sendTo(url, servers)).toEqual({ status: undefined, error: "the address is not public" });
  }
  expect(seen.connections).toBe(0);
  server.close();
});

test("a name that there is not is told as such", async () => {
  const servers = [await nameServer({})];
  const error = "the name was not found";
  expect(await sendTo("http://nowhere.example.com/", servers)).toEqual({ status: undefined, error });
});

test("name servers that never answer hold up no other name, however many there are", async () => {
  const silent = [await nameServer({}, true)];
  const cut = new AbortController();
  const post = new WebhookPost(false, receiverLookup(silent));
  const notification = { headers: {}, body: Buffer.from("{}") };
  const stuck = Array.from({ length: 50 }, () => post.send("http://slow.example.com/", notification, cut.signal));
  const servers = [await nameServer({ "hooks.example.com": "127.0.0.1" })];
  expect(await sendTo("http://hooks.example.com/", servers)).toMatchObject({ error: "the address is not public" });
  cut.abort();
  const errors = (await Promise.all(stuck)).map(({ error }) => error);
  expect(new Set(errors)).toEqual(new Set(["no answer in time"]));
});
