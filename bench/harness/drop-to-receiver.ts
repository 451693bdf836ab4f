/** Drops at a steady pace to one server, while a receiver of the mailbox waits at another, and times each message. */
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import type { GrpcConnection } from "./grpc-connection.ts";
import { messageBodyBytes } from "./mailbox-operations.ts";
import { type CallsResult, timeCalls } from "./make-calls.ts";

/** What is dropped, and where. */
export interface DropStream {
  readonly leaseId: string;
  readonly dropToken: string;
  readonly dropsPerSecond: number;
  readonly seconds: number;
}

/**
 * The pace is an open loop: a timer of 1 ms makes every drop that is due, however many are not answered yet. A message's
 * time runs from when its drop was due until it is received, so what a stall holds up counts in full, and so does the
 * timer's own lateness.
 */
export async function dropToReceiver(
  stream: DropStream,
  dropping: GrpcConnection,
  receiving: GrpcConnection,
): Promise<CallsResult> {
  return await timeCalls(async (durationsMs) => {
    const total = Math.ceil(stream.dropsPerSecond * stream.seconds);
    const startMs = performance.now();
    const dueMs = (place: number) => startMs + (place * 1000) / stream.dropsPerSecond;
    const hangUp = new AbortController();
    const acknowledger = new Acknowledger(receiving, stream.leaseId, () => hangUp.abort());
    const received = receive(stream, receiving, hangUp, acknowledger, (place) => {
      durationsMs.push(performance.now() - dueMs(place));
      return durationsMs.length === total;
    });
    const dropped = dropWhenDue(stream, dropping, total, dueMs);
    await Promise.all([received, dropped]);
    await acknowledger.finish();
    if (durationsMs.length !== total) {
      throw new Error(`${durationsMs.length} messages were received of ${total}`);
    }
  });
}

/** Returns when `take`, which is told each message's place in the order of dropping, says that it was the last. */
async function receive(
  { leaseId }: DropStream,
  grpc: GrpcConnection,
  hangUp: AbortController,
  acknowledger: Acknowledger,
  take: (place: number) => boolean,
): Promise<void> {
  await grpc.serverStream(
    MailboxService.method.receiveMessages,
    { leaseId, window: 1000 },
    ({ deliveries }) => {
      for (const { message, receipt } of deliveries) {
        acknowledger.add(receipt);
        if (take(Buffer.from(message?.body ?? []).readUInt32BE(0))) {
          hangUp.abort();
        }
      }
    },
    hangUp.signal,
  );
}

/** Returns when each drop is answered. */
async function dropWhenDue(
  { dropToken }: DropStream,
  grpc: GrpcConnection,
  total: number,
  dueMs: (place: number) => number,
): Promise<void> {
  const answers: Promise<unknown>[] = [];
  await new Promise<void>((resolve, reject) => {
    const timer = setInterval(() => {
      while (answers.length < total && dueMs(answers.length) <= performance.now()) {
        const body = Buffer.alloc(messageBodyBytes);
        body.writeUInt32BE(answers.length, 0);
        const answer = grpc.unary(MailboxService.method.dropMessage, { dropToken, body });
        answer.catch(reject);
        answers.push(answer);
      }
      if (answers.length === total) {
        clearInterval(timer);
        resolve();
      }
    }, 1);
  });
  await Promise.all(answers);
}

/** Acknowledges what was received, one call at a time: the next takes what came meanwhile. */
class Acknowledger {
  readonly #grpc: GrpcConnection;
  readonly #leaseId: string;
  readonly #failed: () => void;
  readonly #receipts: string[] = [];
  #working: Promise<void> | undefined;

  constructor(grpc: GrpcConnection, leaseId: string, failed: () => void) {
    this.#grpc = grpc;
    this.#leaseId = leaseId;
    this.#failed = failed;
  }

  add(receipt: string): void {
    this.#receipts.push(receipt);
    if (this.#working === undefined) {
      this.#working = this.#work();
      this.#working.catch(this.#failed);
    }
  }

  /** @throws Error if an acknowledgement failed. */
  async finish(): Promise<void> {
    await this.#working;
  }

  async #work(): Promise<void> {
    while (this.#receipts.length > 0) {
      const receipts = this.#receipts.splice(0, 1000);
      await this.#grpc.unary(MailboxService.method.ackMessages, { leaseId: this.#leaseId, receipts });
    }
    this.#working = undefined;
  }
}
