/** What mailboxes are compared with: pg-boss with its defaults, in the process that calls it. */
import { randomBytes } from "node:crypto";
import { PgBoss } from "pg-boss";
import { messageBodyBytes, messagesPerBatch } from "./harness/mailbox-operations.ts";
import { servePeer } from "./harness/serve-peer.ts";

/** How many jobs a queue is filled with at once, which is not measured. */
const jobsPerInsert = 1000;

/** A job is JSON: its body is text of as many bytes as a message has. */
const job = { body: randomBytes(messageBodyBytes / 2).toString("hex") };

const boss = new PgBoss(process.env.DATABASE_URL ?? "");
boss.on("error", (error) => console.error(error));
await boss.start();

const operations = {
  async createQueue(queue: string) {
    await boss.createQueue(queue);
    return queue;
  },

  /** Deletes its jobs with it. */
  async deleteQueue(queue: string) {
    await boss.deleteQueue(queue);
    return queue;
  },

  async send(queue: string) {
    return (await boss.send(queue, job)) ?? "";
  },

  async fill(queue: string) {
    const jobs = Array.from({ length: jobsPerInsert }, () => ({ data: job }));
    await boss.insert(queue, jobs);
    return `${jobsPerInsert}`;
  },

  /** Two calls: takes a hundred jobs, or fewer, and completes them. The output is how many they were. */
  async fetchAndComplete(queue: string) {
    const jobs = await boss.fetch(queue, { batchSize: messagesPerBatch });
    const ids = jobs.map(({ id }) => id);
    await boss.complete(queue, ids);
    return `${ids.length}`;
  },
};

export type PgBossOperation = keyof typeof operations;

servePeer(operations, () => boss.stop({ graceful: false }));
