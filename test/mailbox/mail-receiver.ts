/** The owner of a mailbox in tests: takes messages, settles them, and moves their times. */
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import {
  MailboxService,
  type MessageDelivery,
  ReceiptResult_Outcome as Outcome,
  type ReceiptResult,
} from "#gen/leasehold/v1/mailbox_pb.js";
import type { Database } from "../../src/database/database.ts";
import { Refusal } from "../handoff/redeemer.ts";
import { fromClientError } from "../server/seen-error.ts";
import { leaseUuid, type Reachable, type RpcDoor, type Tenant } from "../support/tenant.ts";
import { query } from "../support/test-query.ts";
import { type Drop, Dropper, messageUuid, type OpenMailbox, openMailbox } from "./mail.ts";

/** What a test opens a stream with. */
export interface StreamOptions {
  readonly window?: number;
  readonly visibilityTimeout?: { readonly seconds: bigint };
  readonly signal?: AbortSignal;
}

/** What a test pulls with. */
export interface PullOptions {
  readonly maxMessages?: number;
  readonly waitSeconds?: number;
  readonly holdSeconds?: number;
  readonly signal?: AbortSignal;
}

/** One mailbox at one server, by one door. */
export class MailReceiver {
  readonly leaseId: string;
  readonly dropToken: string;
  readonly mail: Client<typeof MailboxService>;
  readonly #tenant: Tenant;
  readonly #dropper: Dropper;

  constructor(tenant: Tenant, mailbox: Pick<OpenMailbox, "leaseId" | "dropToken">, server: Reachable, door: RpcDoor) {
    this.leaseId = mailbox.leaseId;
    this.dropToken = mailbox.dropToken;
    this.#tenant = tenant;
    this.#dropper = new Dropper(server);
    const { apiKey } = tenant.account;
    this.mail =
      door === "connect" ? server.client(MailboxService, apiKey) : server.nativeClient(MailboxService, apiKey);
  }

  /** Makes a mailbox, and receives by the native door of the tenant's server. */
  static async open(
    tenant: Tenant,
    spec: Parameters<typeof openMailbox>[1] = {},
    lease: Parameters<typeof openMailbox>[2] = {},
  ) {
    return new MailReceiver(tenant, await openMailbox(tenant, spec, lease), tenant.leasehold, "native");
  }

  /** The same mailbox elsewhere. */
  at(server: Reachable, door: RpcDoor = "native"): MailReceiver {
    return new MailReceiver(this.#tenant, this, server, door);
  }

  /** The same mailbox by another key or account. */
  by(tenant: Tenant, server: Reachable = tenant.leasehold): MailReceiver {
    return new MailReceiver(tenant, this, server, "native");
  }

  get database(): Database {
    return this.#tenant.leasehold.database;
  }

  /** Drops bodies one after the other. */
  async drop(bodies: readonly string[], drop: Omit<Drop, "body"> = {}): Promise<string[]> {
    const messageIds: string[] = [];
    for (const body of bodies) {
      messageIds.push((await this.#dropper.drop(this.dropToken, { ...drop, body })).messageId);
    }
    return messageIds;
  }

  async pull(options: PullOptions = {}): Promise<MessageDelivery[]> {
    const { maxMessages = 100, waitSeconds = 0, holdSeconds = 30, signal } = options;
    const request = {
      leaseId: this.leaseId,
      maxMessages,
      waitTimeout: { seconds: BigInt(waitSeconds) },
      visibilityTimeout: { seconds: BigInt(holdSeconds) },
    };
    const { deliveries } = await seen(this.mail.pullMessages(request, signal === undefined ? {} : { signal }));
    return deliveries;
  }

  /** Pulls, and gives the bodies. */
  async pullBodies(options: PullOptions = {}): Promise<string[]> {
    return (await this.pull(options)).map(bodyOf);
  }

  stream(options: StreamOptions = {}): MailStream {
    return new MailStream(this, options);
  }

  async ack(deliveries: readonly { readonly receipt: string }[]): Promise<string[]> {
    const receipts = deliveries.map(({ receipt }) => receipt);
    return outcomes((await seen(this.mail.ackMessages({ leaseId: this.leaseId, receipts }))).results);
  }

  async nack(deliveries: readonly { readonly receipt: string }[], delaySeconds = 0): Promise<string[]> {
    const receipts = deliveries.map(({ receipt }) => receipt);
    const delay = { seconds: BigInt(delaySeconds) };
    return outcomes((await seen(this.mail.nackMessages({ leaseId: this.leaseId, receipts, delay }))).results);
  }

  async extend(deliveries: readonly { readonly receipt: string }[], seconds: number): Promise<string[]> {
    const receipts = deliveries.map(({ receipt }) => receipt);
    const visibilityTimeout = { seconds: BigInt(seconds) };
    return outcomes(
      (await seen(this.mail.extendMessages({ leaseId: this.leaseId, receipts, visibilityTimeout }))).results,
    );
  }

  /** Lets the holds and delays of the mailbox, or of one message of it, be over. */
  async passTime(messageId?: string): Promise<void> {
    await query(
      this.database,
      `update message set visible_time = statement_timestamp() - interval '1 millisecond'
      where lease_id = $1 and state in (2, 3) and visible_time is not null and ($2::uuid is null or message_id = $2)`,
      [leaseUuid(this.leaseId), messageId === undefined ? null : messageUuid(messageId)],
    );
  }

  /** Lets the holds and delays of the mailbox be over in so many milliseconds. */
  async endHoldsIn(delayMs: number): Promise<void> {
    await query(
      this.database,
      `update message set visible_time = statement_timestamp() + $2::int * interval '1 millisecond'
      where lease_id = $1 and state = 2`,
      [leaseUuid(this.leaseId), delayMs],
    );
  }
}

/** A stream of deliveries, read one by one. */
export class MailStream implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #messages: AsyncIterator<{ readonly deliveries: MessageDelivery[] }>;
  readonly #unread: MessageDelivery[] = [];
  #pending: Promise<void> | undefined;

  constructor(receiver: MailReceiver, { window, visibilityTimeout }: StreamOptions) {
    const request = {
      leaseId: receiver.leaseId,
      ...(window === undefined ? {} : { window }),
      ...(visibilityTimeout === undefined ? {} : { visibilityTimeout }),
    };
    const answers = receiver.mail.receiveMessages(request, { signal: this.#controller.signal });
    this.#messages = answers[Symbol.asyncIterator]();
  }

  /** The next delivery. Rejects with a Refusal when the stream fails. */
  async next(): Promise<MessageDelivery> {
    for (;;) {
      const delivery = this.#unread.shift();
      if (delivery !== undefined) {
        return delivery;
      }
      await this.#fill();
    }
  }

  async take(count: number): Promise<MessageDelivery[]> {
    const deliveries: MessageDelivery[] = [];
    while (deliveries.length < count) {
      deliveries.push(await this.next());
    }
    return deliveries;
  }

  /** Whether nothing comes although a call that is made meanwhile is answered. */
  async isQuiet(meanwhile: () => Promise<unknown>): Promise<boolean> {
    const came = this.#fill().then(() => this.#unread.length === 0);
    return await Promise.race([came, meanwhile().then(() => true)]);
  }

  /** Hangs up. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort();
    await this.#pending?.catch(() => undefined);
  }

  #fill(): Promise<void> {
    this.#pending ??= this.#read().finally(() => {
      this.#pending = undefined;
    });
    this.#pending.catch(() => undefined);
    return this.#pending;
  }

  async #read(): Promise<void> {
    const { done, value } = await seen(this.#messages.next());
    if (done === true) {
      throw new Error("the stream ended");
    }
    this.#unread.push(...value.deliveries);
  }
}

/** What a call was refused for, as a Refusal. */
export async function seen<Value>(call: Promise<Value>): Promise<Value> {
  try {
    return await call;
  } catch (error) {
    throw error instanceof ConnectError && error.code !== Code.Canceled ? toRefusal(error) : error;
  }
}

function toRefusal(error: ConnectError): Error {
  const { details, message } = fromClientError(error);
  const info = details.ErrorInfo as { reason: string; metadata?: Record<string, string> } | undefined;
  return info === undefined ? error : new Refusal(info.reason, info.metadata ?? {}, message);
}

/** The body of what was delivered. */
export function bodyOf(delivery: MessageDelivery): string {
  return Buffer.from(delivery.message?.body ?? []).toString();
}

function outcomes(results: readonly ReceiptResult[]): string[] {
  return results.map(({ outcome }) => Outcome[outcome]);
}
