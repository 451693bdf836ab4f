/** Redeems tokens as a receiver does, through every door, and reads no faster than a test asks for. */
import { crc32 } from "node:zlib";
import { type Client, ConnectError } from "@connectrpc/connect";
import { expect } from "vitest";
import {
  type ClaimHandoffResponse,
  HandoffService,
  type InspectHandoffResponse,
} from "#gen/leasehold/v1/handoff_pb.js";
import { fromClientError } from "../server/seen-error.ts";
import { type HttpRefusal, refusalOf } from "../support/tenant.ts";
import type { TestLeasehold } from "../support/test-leasehold.ts";

/** The doors by which a token is redeemed. */
export const redeemDoors = ["connect", "native", "http"] as const;
export type RedeemDoor = (typeof redeemDoors)[number];

/** What a receiver sends. */
export interface Redeem {
  readonly token: string;
  readonly claimId?: string;
  readonly offset?: number;
  readonly requestId?: string;
}

/** Where a receiver turns to: the addresses of a server. */
export type Reachable = Pick<TestLeasehold, "httpUrl" | "client" | "nativeClient">;

/** A refusal, in one form for every door. */
export class Refusal extends Error {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(reason: string, metadata: Readonly<Record<string, string>>, message: string) {
    super(`${reason}: ${message}`);
    this.reason = reason;
    this.metadata = metadata;
  }
}

/** Calls one server without an account. */
export class Redeemer {
  readonly #httpUrl: string;
  readonly #clients: Readonly<Record<"connect" | "native", Client<typeof HandoffService>>>;

  constructor(server: Reachable) {
    this.#httpUrl = server.httpUrl;
    this.#clients = { connect: server.client(HandoffService), native: server.nativeClient(HandoffService) };
  }

  /** Begins to redeem. Rejects with a Refusal, or as a call does that `controller` has aborted. */
  async redeem(door: RedeemDoor, request: Redeem, controller = new AbortController()): Promise<Redemption> {
    return door === "http"
      ? await this.#redeemOverHttp(request, controller)
      : await this.#redeemByRpc(door, request, controller);
  }

  /** Redeems and reads everything. */
  async take(door: RedeemDoor, request: Redeem): Promise<{ readonly claimId: string; readonly body: Buffer }> {
    const redemption = await this.redeem(door, request);
    return { claimId: redemption.claimId, body: await redemption.readRest() };
  }

  async confirm(
    door: RedeemDoor,
    token: string,
    claimId: string,
  ): Promise<{ state: string; leaseEnded: boolean; endTime?: string }> {
    if (door === "http") {
      const headers = { "leasehold-claim-id": claimId };
      const response = await okOrRefusal(await fetch(`${this.claimUrl(token)}/confirm`, { method: "POST", headers }));
      const { claim, leaseEnded = false } = (await response.json()) as {
        claim: { state: string; endTime: string };
        leaseEnded?: boolean;
      };
      return { ...claim, leaseEnded };
    }
    const { claim, leaseEnded } = await orRefusal(this.#clients[door].confirmClaim({ claimToken: token, claimId }));
    return {
      state: `STATE_${["UNSPECIFIED", "HELD", "DELIVERED", "USED", "RETURNED", "BURNT"][claim?.state ?? 0]}`,
      leaseEnded,
    };
  }

  async inspect(door: "connect" | "native", token: string): Promise<InspectHandoffResponse> {
    return await orRefusal(this.#clients[door].inspectHandoff({ claimToken: token }));
  }

  claimUrl(token: string): string {
    return `${this.#httpUrl}/api/claim/${token}`;
  }

  async #redeemByRpc(door: "connect" | "native", redeem: Redeem, controller: AbortController): Promise<Redemption> {
    const { token, claimId, offset, requestId } = redeem;
    const request = {
      claimToken: token,
      claimId: claimId ?? "",
      offset: BigInt(offset ?? 0),
      requestId: requestId ?? "",
    };
    const messages = this.#clients[door].claimHandoff(request, { signal: controller.signal })[Symbol.asyncIterator]();
    const { value: first } = await orRefusal(messages.next());
    const start = (first as ClaimHandoffResponse | undefined)?.part;
    if (start?.case !== "start") {
      throw new Error("the first message of a claim is its start");
    }
    return new Redemption({
      claimId: start.value.claimId,
      contentBytes: Number(start.value.contentBytes),
      offset: Number(start.value.offset),
      pieces: piecesOf(messages, Number(start.value.offset)),
      hangUp: () => controller.abort(),
    });
  }

  async #redeemOverHttp(redeem: Redeem, controller: AbortController): Promise<Redemption> {
    const { token, claimId, offset, requestId } = redeem;
    const headers: Record<string, string> = {
      ...(claimId === undefined ? {} : { "leasehold-claim-id": claimId }),
      ...(offset === undefined ? {} : { range: `bytes=${offset}-` }),
      ...(requestId === undefined ? {} : { "leasehold-request-id": requestId }),
    };
    const response = await okOrRefusal(
      await fetch(this.claimUrl(token), { method: "POST", headers, signal: controller.signal }),
    );
    const start = offset ?? 0;
    expect(response.status).toBe(start === 0 ? 200 : 206);
    return new Redemption({
      claimId: response.headers.get("leasehold-claim-id") ?? "",
      contentBytes: start + Number(response.headers.get("content-length")),
      offset: start,
      pieces: (response.body ?? new Blob([]).stream())[Symbol.asyncIterator](),
      hangUp: () => controller.abort(),
    });
  }
}

/** A claim under way. */
export class Redemption {
  readonly claimId: string;
  readonly contentBytes: number;
  readonly offset: number;
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #hangUp: () => void;

  constructor(parts: {
    claimId: string;
    contentBytes: number;
    offset: number;
    pieces: AsyncIterator<Uint8Array>;
    hangUp: () => void;
  }) {
    this.claimId = parts.claimId;
    this.contentBytes = parts.contentBytes;
    this.offset = parts.offset;
    this.#pieces = parts.pieces;
    this.#hangUp = parts.hangUp;
  }

  /** Reads so many bytes and at most a piece more. */
  async read(bytes: number): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    for (let length = 0; length < bytes; ) {
      const { done, value } = await orRefusal(this.#pieces.next());
      if (done === true) {
        throw new Error(`the claim ended after ${length} of ${bytes} bytes`);
      }
      pieces.push(value);
      length += value.length;
    }
    return Buffer.concat(pieces);
  }

  /** Reads to the end. Rejects with a Refusal if the server cuts the stream and can say why, else with any error. */
  async readRest(): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    for (;;) {
      const { done, value } = await orRefusal(this.#pieces.next());
      if (done === true) {
        return Buffer.concat(pieces);
      }
      pieces.push(value);
    }
  }

  /** Hangs up without a word. */
  hangUp(): void {
    this.#hangUp();
  }
}

/** The refusal that a promise is rejected with. */
export async function refusedWith(call: Promise<unknown>): Promise<Refusal> {
  const error: unknown = await call.then(
    () => expect.fail("The call succeeded"),
    (reason: unknown) => reason,
  );
  if (error instanceof Refusal) {
    return error;
  }
  throw error;
}

async function* piecesOf(messages: AsyncIterator<ClaimHandoffResponse>, offset: number): AsyncGenerator<Uint8Array> {
  let at = offset;
  for (;;) {
    const { done, value } = await messages.next();
    if (done === true) {
      throw new Error("a claim's stream ended without its end");
    }
    const { part } = value;
    if (part.case === "data") {
      expect(Number(part.value.offset)).toBe(at);
      expect(crc32(part.value.data)).toBe(part.value.dataCrc32);
      at += part.value.data.length;
      yield part.value.data;
    } else if (part.case === "end") {
      expect(Number(part.value.contentBytes)).toBe(at);
      return;
    }
  }
}

async function orRefusal<Value>(call: Promise<Value>): Promise<Value> {
  try {
    return await call;
  } catch (error) {
    throw error instanceof ConnectError ? toRefusal(error) : error;
  }
}

function toRefusal(error: ConnectError): Error {
  const { details, message } = fromClientError(error);
  const info = details.ErrorInfo as { reason: string; metadata?: Record<string, string> } | undefined;
  return info === undefined ? error : new Refusal(info.reason, info.metadata ?? {}, message);
}

async function okOrRefusal(response: Response): Promise<Response> {
  if (response.ok) {
    return response;
  }
  const { reason, metadata, message }: HttpRefusal = await refusalOf(response);
  throw new Refusal(reason, metadata, message);
}
