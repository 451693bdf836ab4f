/** The plain HTTP form of a drop: the body of a POST is the message, and headers say the rest. */
import { isUtf8 } from "node:buffer";
import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";
import {
  type DropMessageRequest,
  DropMessageRequestSchema,
  DropMessageResponseSchema,
  MailboxService,
} from "#gen/leasehold/v1/mailbox_pb.js";
import { invalidField } from "../errors/leasehold-error.ts";
import { formatId } from "../ids/ids.ts";
import { guardedHeaders } from "../server/content-headers.ts";
import type { HttpExchange } from "../server/http-exchange.ts";
import { RequestValidator } from "../server/request-validator.ts";
import type { Route } from "../server/router.ts";
import { bodyTooLarge } from "./drop-refusals.ts";
import { maxMessageBytesLimit } from "./mailbox-details.ts";
import type { MailboxServiceOptions } from "./mailbox-options.ts";

type RouteOptions = Pick<MailboxServiceOptions, "drops">;

/** `POST /api/drop/{token}`. */
export function mailboxRoutes({ drops }: RouteOptions): Route[] {
  const validator = new RequestValidator();
  validator.compile(DropMessageRequestSchema);
  return [
    {
      method: "POST",
      path: "/api/drop/:token",
      rpc: MailboxService.method.dropMessage,
      async handle(exchange) {
        const request = await readDrop(drops, exchange);
        validator.check(DropMessageRequestSchema, request);
        const { messageId, sequence } = await drops.drop(request);
        const response = create(DropMessageResponseSchema, { messageId: formatId("msg", messageId), sequence });
        await exchange.sendMessage(DropMessageResponseSchema, response, guardedHeaders);
      },
    },
  ];
}

/** Reads no body for a token that nobody was given. */
async function readDrop(drops: RouteOptions["drops"], exchange: HttpExchange): Promise<DropMessageRequest> {
  const { call } = exchange;
  const dropToken = exchange.params.token ?? "";
  const place = await drops.places.find(dropToken);
  const delay = delayOf(call.header("leasehold-delay"));
  const body = await readBounded(exchange, maxMessageBytesLimit);
  if (body === undefined) {
    throw bodyTooLarge((await drops.places.confirm(place)).maxMessageBytes);
  }
  return create(DropMessageRequestSchema, {
    dropToken,
    requestId: call.header("leasehold-request-id") ?? "",
    body,
    contentType: call.header("content-type") ?? "",
    attributes: attributesOf(exchange),
    group: textOf(call.header("leasehold-group") ?? ""),
    ...(delay === undefined ? {} : { delay }),
  });
}

/** The body, or undefined if it is larger: what comes after is not read. */
async function readBounded(exchange: HttpExchange, maxBytes: number): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of exchange.body()) {
    bytes += piece.length;
    if (bytes > maxBytes) {
      return undefined;
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

const attributePrefix = "leasehold-attribute-";

function attributesOf(exchange: HttpExchange): Record<string, string> {
  const attributes: Record<string, string> = {};
  for (const name of Object.keys(exchange.request.headers)) {
    if (name.startsWith(attributePrefix)) {
      attributes[name.slice(attributePrefix.length)] = textOf(exchange.call.header(name) ?? "");
    }
  }
  return attributes;
}

/** Node reads the bytes of a header as Latin-1. Browsers write them so, and most others write UTF-8. */
function textOf(header: string): string {
  const bytes = Buffer.from(header, "latin1");
  return isUtf8(bytes) ? bytes.toString("utf8") : header;
}

function delayOf(header: string | undefined): Duration | undefined {
  if (header === undefined) {
    return undefined;
  }
  const parts = /^(\d{1,9})(?:\.(\d{1,9}))?$/.exec(header);
  if (parts === null) {
    throw invalidField("leasehold-delay", "must be seconds, as 30 or 0.5");
  }
  return create(DurationSchema, { seconds: BigInt(parts[1] ?? 0), nanos: Number((parts[2] ?? "").padEnd(9, "0")) });
}
