/** The plain HTTP form of a claim: GET looks at a token, POST redeems it, and a POST to its confirm path settles it. */
import { create, fromJsonString, toJson } from "@bufbuild/protobuf";
import {
  type ConfirmClaimRequest,
  ConfirmClaimRequestSchema,
  ConfirmClaimResponseSchema,
  HandoffService,
  InspectHandoffResponseSchema,
} from "#gen/leasehold/v1/handoff_pb.js";
import { invalidField, LeaseholdError } from "../errors/leasehold-error.ts";
import { type ClaimUuid, formatId, parseId } from "../ids/ids.ts";
import { bodyHeaders, guardedHeaders } from "../server/content-headers.ts";
import type { HttpExchange } from "../server/http-exchange.ts";
import { parseResumeOffset } from "../server/http-ranges.ts";
import type { Route } from "../server/router.ts";
import { claimPage, claimPageHeaders } from "./claim-page.ts";
import { streamClaim } from "./claim-stream.ts";
import type { OpenClaim } from "./claims.ts";
import { timeText } from "./handoff-row.ts";
import type { HandoffServiceOptions } from "./handoff-service.ts";
import { showClaim } from "./handoff-view.ts";
import { inspectToken } from "./token-inspection.ts";

/** `GET|HEAD|POST /api/claim/{token}` and `POST /api/claim/{token}/confirm`. */
export function handoffRoutes(options: HandoffServiceOptions): Route[] {
  const { inspectHandoff, claimHandoff, confirmClaim } = HandoffService.method;
  return [
    { method: "GET", path: "/api/claim/:token", rpc: inspectHandoff, handle: (exchange) => look(options, exchange) },
    { method: "POST", path: "/api/claim/:token", rpc: claimHandoff, handle: (exchange) => redeem(options, exchange) },
    {
      method: "POST",
      path: "/api/claim/:token/confirm",
      rpc: confirmClaim,
      handle: (exchange) => confirm(options, exchange),
    },
  ];
}

/** Looks, and consumes nothing: a small page to a browser, JSON to the rest. */
async function look(options: HandoffServiceOptions, exchange: HttpExchange): Promise<void> {
  const inspected = await inspectToken(options, exchange.params.token ?? "");
  if (/\btext\/html\b/.test(exchange.call.header("accept") ?? "")) {
    await exchange.send(200, "text/html; charset=utf-8", claimPage(inspected), claimPageHeaders);
    return;
  }
  await exchange.sendJson(200, toJson(InspectHandoffResponseSchema, inspected), guardedHeaders);
}

/** Redeems: reserves a claim, or goes on with the one in Leasehold-Claim-Id from where Range says. */
async function redeem(options: HandoffServiceOptions, exchange: HttpExchange): Promise<void> {
  const { call } = exchange;
  const claimId = call.header("leasehold-claim-id");
  const open = await options.claims.open({
    token: exchange.params.token ?? "",
    claimId: claimId === undefined ? undefined : claimIdOf(claimId),
    offset: parseResumeOffset(call.header("range")),
    requestId: requestIdOf(call.header("leasehold-request-id")),
    needsOneItem: true,
  });
  exchange.begin(open.offset === 0n ? 200 : 206, await claimHeaders(open));
  for await (const part of streamClaim(open, options.claims, call)) {
    if (part.kind === "data") {
      await exchange.write(part.data);
    }
  }
  await exchange.end();
}

/** Settles a delivered claim. The claim id comes in Leasehold-Claim-Id, or as `{"claimId": ...}`. */
async function confirm(options: HandoffServiceOptions, exchange: HttpExchange): Promise<void> {
  const header = exchange.call.header("leasehold-claim-id");
  const claimId = header === undefined ? await claimIdInBody(exchange) : claimIdOf(header);
  const confirmed = await options.claims.confirm(exchange.params.token ?? "", claimId);
  const response = create(ConfirmClaimResponseSchema, {
    claim: showClaim(confirmed.claim),
    leaseEnded: confirmed.leaseEnded,
  });
  await exchange.sendMessage(ConfirmClaimResponseSchema, response, guardedHeaders);
}

async function claimHeaders(open: OpenClaim): Promise<Record<string, string>> {
  const { value: item, done } = await open.content.items(0n)[Symbol.asyncIterator]().next();
  if (done === true) {
    throw new Error("the content of a variant with one item has none");
  }
  const total = open.content.totalBytes;
  const headers: Record<string, string> = {
    ...bodyHeaders(item),
    "content-length": `${total - open.offset}`,
    "leasehold-claim-id": formatId("clm", open.claim.claim_id),
    "leasehold-hold-expire-time": timeText(open.claim.hold_expire_time),
  };
  if (open.offset > 0n) {
    headers["content-range"] = `bytes ${open.offset < total ? `${open.offset}-${total - 1n}` : "*"}/${total}`;
  }
  return headers;
}

function claimIdOf(text: string): ClaimUuid {
  const claimId = parseId("clm", text);
  if (claimId === undefined) {
    throw invalidField("claim_id", "must be clm_ and 26 characters of Crockford base32");
  }
  return claimId;
}

const maxConfirmBytes = 1_024;

async function claimIdInBody(exchange: HttpExchange): Promise<ClaimUuid> {
  const body = await exchange.readBody(maxConfirmBytes);
  return claimIdOf(parseConfirm(body.toString("utf8")).claimId);
}

function parseConfirm(text: string): ConfirmClaimRequest {
  try {
    return fromJsonString(ConfirmClaimRequestSchema, text);
  } catch (error) {
    throw new LeaseholdError(
      "INVALID_FIELD",
      'claim_id must come in Leasehold-Claim-Id or as JSON: {"claimId": "clm_..."}.',
      {
        metadata: { field: "claim_id" },
        fieldViolations: [{ field: "claim_id", description: "must come in Leasehold-Claim-Id or as JSON" }],
        cause: error,
      },
    );
  }
}

function requestIdOf(header: string | undefined): string | undefined {
  if (header !== undefined && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(header)) {
    throw invalidField("leasehold-request-id", "must be a UUID");
  }
  return header;
}
