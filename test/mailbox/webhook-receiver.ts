/** A receiver of webhooks on this host, and mailboxes that announce their drops to it. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { MailboxService, type WebhookDelivery } from "#gen/leasehold/v1/mailbox_pb.js";
import { required, Tenant } from "../support/tenant.ts";
import type { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

/** A request as it came. */
export interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What a receiver does with a request. A number is answered with as a status. */
export type Answer = (
  received: ReceivedRequest,
  response: ServerResponse,
  count: number,
) => number | undefined | Promise<number | undefined>;

/** An HTTP server that keeps what it is sent. Closed when the test ends. */
export class WebhookReceiver {
  readonly requests: ReceivedRequest[] = [];
  readonly url: string;
  readonly port: number;
  readonly #arrivals = new EventTarget();

  private constructor(server: Server, answer: Answer) {
    this.port = (server.address() as AddressInfo).port;
    this.url = `http://127.0.0.1:${this.port}/hook`;
    server.on("request", (request, response) => void this.#serve(request, response, answer));
  }

  static async start(answer: Answer = () => 200, host = "127.0.0.1"): Promise<WebhookReceiver> {
    const server = createServer();
    server.listen(0, host);
    await once(server, "listening");
    onTestFinished(() => {
      server.close();
      server.closeAllConnections();
    });
    return new WebhookReceiver(server, answer);
  }

  /** Resolves when so many requests have come. */
  async received(count: number): Promise<void> {
    while (this.requests.length < count) {
      await once(this.#arrivals, "arrival");
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse, answer: Answer): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) {
      pieces.push(piece as Buffer);
    }
    const received: ReceivedRequest = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers as Record<string, string>,
      body: Buffer.concat(pieces).toString(),
    };
    this.requests.push(received);
    this.#arrivals.dispatchEvent(new Event("arrival"));
    const status = await answer(received, response, this.requests.length);
    if (status !== undefined) {
      response.writeHead(status).end();
    }
  }
}

/** What became of a notification, in the form that tests compare. */
export function outcomeOf(delivery: WebhookDelivery) {
  const { state, attemptCount, lastStatus, lastError, nextAttemptTime } = delivery;
  return { state, attemptCount, lastStatus, lastError, isToBeSent: nextAttemptTime !== undefined };
}

/** A mailbox with a webhook, and what its owner and its droppers do with it. */
export class AnnouncedMailbox {
  readonly tenant: Tenant;
  readonly leaseId: string;
  readonly dropToken: string;
  readonly webhookSecret: string;

  private constructor(tenant: Tenant, leaseId: string, secrets: { dropToken: string; webhookSecret: string }) {
    this.tenant = tenant;
    this.leaseId = leaseId;
    this.dropToken = secrets.dropToken;
    this.webhookSecret = secrets.webhookSecret;
  }

  static async open(leasehold: TestLeasehold, webhookUrl: string, hours = 1n): Promise<AnnouncedMailbox> {
    const tenant = await Tenant.open(leasehold);
    const { lease, ...secrets } = await tenant.leases.createLease({
      sizeBytes: 1_048_576n,
      duration: { seconds: 3_600n * hours },
      variant: { case: "mailbox", value: { webhookUrl } },
    });
    return new AnnouncedMailbox(tenant, required(lease).leaseId, secrets);
  }

  get mailboxes() {
    return this.tenant.leasehold.client(MailboxService, this.tenant.account.apiKey);
  }

  /** Drops messages, and gives their ids. */
  async drop(...bodies: readonly string[]): Promise<string[]> {
    const ids: string[] = [];
    for (const body of bodies) {
      const request = { dropToken: this.dropToken, body: Buffer.from(body) };
      ids.push((await this.mailboxes.dropMessage(request)).messageId);
    }
    return ids;
  }

  /** The delivery log, newest first. */
  async log() {
    return await this.mailboxes.listWebhookDeliveries({ leaseId: this.leaseId });
  }

  /** The one entry of the delivery log. */
  async entry(): Promise<WebhookDelivery> {
    const { deliveries } = await this.log();
    if (deliveries.length !== 1) {
      throw new Error(`the log has ${deliveries.length} entries`);
    }
    return required(deliveries[0]);
  }

  /** Lets the time pass until every notification is due. */
  async makeDue(): Promise<void> {
    const text = `update webhook_delivery set next_attempt_time = clock_timestamp() - interval '1 second'
      where owner_id = $1 and state = 1`;
    await query(this.tenant.leasehold.database, text, [this.tenant.ownerId]);
  }
}
