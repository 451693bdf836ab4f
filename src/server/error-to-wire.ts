/** The one place where a LeaseholdError becomes what a protocol sends. Its cause never does. */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type ServerInterceptingCallInterface } from "@grpc/grpc-js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import { type CatalogEntry, errorCatalog } from "../errors/error-catalog.ts";
import type { FieldViolation, LeaseholdError } from "../errors/leasehold-error.ts";

/** What grpc-js ends a call with. */
export type GrpcStatus = Parameters<ServerInterceptingCallInterface["sendStatus"]>[0];

/** What a plain HTTP route answers an error with. */
export interface HttpError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: HttpErrorBody;
}

/** The JSON of an error on a plain route. `code` and `message` are as in Connect's own JSON, so its clients read it. */
export interface HttpErrorBody {
  readonly code: string;
  readonly status: number;
  readonly reason: string;
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number;
  readonly fieldViolations?: readonly FieldViolation[];
}

/** As Connect, gRPC and gRPC-Web on the HTTP door send it. */
export function toConnectError(error: LeaseholdError): ConnectError {
  return new ConnectError(messageOf(error), entryOf(error).code, undefined, [...detailsOf(error)]);
}

/** As the native door sends it. */
export function toGrpcStatus(error: LeaseholdError): GrpcStatus {
  const { code } = entryOf(error);
  const message = messageOf(error);
  const details = detailsOf(error).map(({ desc, value }) => anyPack(desc, create(desc, value)));
  const metadata = new Metadata();
  metadata.set(
    "grpc-status-details-bin",
    Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, message, details }))),
  );
  return { code: Number(code), details: message, metadata };
}

/** As a plain route sends it. `status` is given where HTTP has a closer one than the catalogue: 405, 415. */
export function toHttpError(error: LeaseholdError, status: number = entryOf(error).httpStatus): HttpError {
  const { reason, metadata, retryAfterMs } = error;
  return {
    status,
    headers: {
      "cache-control": "no-store",
      // RFC 9110, section 11.6.1: a 401 names what to authenticate with.
      ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
      ...(retryAfterMs === undefined ? {} : { "retry-after": `${Math.max(1, Math.ceil(retryAfterMs / 1000))}` }),
    },
    body: {
      code: codeName(entryOf(error).code),
      status,
      reason,
      message: messageOf(error),
      metadata,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      ...(error.fieldViolations.length === 0 ? {} : { fieldViolations: error.fieldViolations }),
    },
  };
}

/** A code's name as Connect's JSON and our logs and metrics have it: `not_found`. */
export function codeName(code: Code): string {
  return codeNames.get(code) ?? "unknown";
}

/** The code and HTTP status of an error. */
export function entryOf(error: LeaseholdError): CatalogEntry {
  return errorCatalog[error.reason];
}

const codeNames: ReadonlyMap<Code, string> = new Map(
  Object.entries(Code).flatMap(([name, code]) =>
    typeof code === "number" ? [[code, name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase()] as const] : [],
  ),
);

interface Detail {
  readonly desc: DescMessage;
  readonly value: MessageInitShape<DescMessage>;
}

/** ErrorInfo always, and BadRequest, RetryInfo and QuotaFailure where they apply. */
function* listDetails(error: LeaseholdError): Generator<Detail> {
  const { reason, metadata, retryAfterMs, fieldViolations } = error;
  yield detail(ErrorInfoSchema, { domain: "leasehold", reason, metadata: { ...metadata } });
  if (fieldViolations.length > 0) {
    yield detail(BadRequestSchema, { fieldViolations: fieldViolations.map((violation) => ({ ...violation })) });
  }
  if (retryAfterMs !== undefined) {
    yield detail(RetryInfoSchema, { retryDelay: durationFromMs(retryAfterMs) });
  }
  if (entryOf(error).code === Code.ResourceExhausted) {
    const subject = metadata.limit ?? reason.toLowerCase();
    yield detail(QuotaFailureSchema, { violations: [{ subject, description: messageOf(error) }] });
  }
}

function detailsOf(error: LeaseholdError): readonly Detail[] {
  return [...listDetails(error)];
}

function detail<Desc extends DescMessage>(desc: Desc, value: MessageInitShape<Desc>): Detail {
  return { desc, value: create(desc, value) };
}

/** Percent-encoding a lone surrogate throws, and a message may quote what a caller sent. */
function messageOf(error: LeaseholdError): string {
  return error.message.toWellFormed();
}
