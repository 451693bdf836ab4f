/** One attempt to deliver a webhook notification: a POST to an address that is checked when it is connected to. */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import type { LookupFunction } from "node:net";
import { RequestFilteringHttpAgent, RequestFilteringHttpsAgent } from "request-filtering-agent";
import type { Notification } from "./signed-notification.ts";
import { lookupFailures, receiverLookup } from "./webhook-lookup.ts";

/** What became of an attempt. */
export interface AttemptOutcome {
  /** The HTTP status of the answer. Undefined if there was none. */
  readonly status: number | undefined;
  /**
   * Why it failed, in a few words that hold nothing of the address, the secret or the answer. Undefined if it did not.
   */
  readonly error: string | undefined;
}

/** The status by which a receiver says that it wants no more notifications. */
export const goneStatus = 410;

/**
 * How much of an answer's body is read, and thrown away, in bytes. A connection that is cut sooner may look like a
 * fault to the receiver.
 */
const mostAnswerBytes = 16_384;

/** Sends notifications. */
export class WebhookPost {
  readonly #agents: { readonly http: RequestFilteringHttpAgent; readonly https: RequestFilteringHttpsAgent };
  readonly #lookup: LookupFunction | undefined;

  /** `allowPrivate`: whether receivers in private networks and on this host may be reached. */
  constructor(allowPrivate: boolean, lookup = receiverLookup()) {
    // Connections are not kept: each attempt has its address checked.
    const options = { allowPrivateIPAddress: allowPrivate, keepAlive: false };
    this.#agents = { http: new RequestFilteringHttpAgent(options), https: new RequestFilteringHttpsAgent(options) };
    // Whoever allows private addresses has names of their own for them, which only the system knows.
    this.#lookup = allowPrivate ? undefined : lookup;
  }

  /** Sends one. Never throws. A redirect is an answer like any other, and is not followed. */
  async send(address: string, notification: Notification, signal: AbortSignal): Promise<AttemptOutcome> {
    try {
      const status = await this.#post(new URL(address), notification, signal);
      return { status, error: status >= 200 && status < 300 ? undefined : describeStatus(status) };
    } catch (error) {
      return { status: undefined, error: describeFailure(error) };
    }
  }

  async #post(url: URL, { headers, body }: Notification, signal: AbortSignal): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const options = { method: "POST", headers, signal, lookup: this.#lookup };
    const request =
      url.protocol === "https:"
        ? requestHttps(url, { ...options, agent: this.#agents.https })
        : requestHttp(url, { ...options, agent: this.#agents.http });
    let status: number | undefined;
    // However an answer's body ends, the status has been said.
    request.on("error", (error) => (status === undefined ? reject(error) : resolve(status)));
    request.on("response", (response) => {
      const said = response.statusCode ?? 0;
      status = said;
      let answerBytes = 0;
      response.on("data", (data: Buffer) => {
        answerBytes += data.length;
        if (answerBytes > mostAnswerBytes) {
          response.destroy();
        }
      });
      response.on("error", () => undefined);
      response.on("close", () => resolve(said));
    });
    request.end(body);
    return await promise;
  }
}

/** Why an answer that is not one of 200 to 299 is a failure. */
export function describeStatus(status: number): string {
  if (status === goneStatus) {
    return "the receiver switched the webhook off";
  }
  if (status >= 300 && status < 400) {
    return "redirects are not followed";
  }
  return status >= 500 ? "the receiver failed" : "the receiver refused it";
}

const notPublic = "the address is not public";

const failures: Readonly<Record<string, string>> = {
  ABORT_ERR: "no answer in time",
  [lookupFailures.notFound]: "the name was not found",
  [lookupFailures.notPublic]: notPublic,
  EAI_AGAIN: "the name was not found",
  ECONNREFUSED: "the connection was refused",
  ECONNRESET: "the connection was cut",
  EPROTO: "TLS failed",
};

/** An error's own message may hold the address. */
function describeFailure(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined) {
    return / is not allowed\. Because/.test(message) ? notPublic : "the connection failed";
  }
  if (/^(ERR_TLS|ERR_SSL|CERT)|SELF_SIGNED|UNABLE_TO/.test(code)) {
    return "TLS failed";
  }
  return code.startsWith("HPE_") ? "the answer is not HTTP" : (failures[code] ?? "the connection failed");
}
