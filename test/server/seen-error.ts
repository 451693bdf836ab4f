/** An error as a client of any protocol sees it, in one form, so that protocols can be compared. */
import {
  createRegistry,
  type DescMessage,
  fromBinary,
  type JsonValue,
  type Registry,
  toJson,
} from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type ServiceError } from "@grpc/grpc-js";
import { expect } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";

/** Code, message and every detail. */
export interface SeenError {
  readonly code: Code;
  readonly message: string;
  /** By the detail's short name: `ErrorInfo`. */
  readonly details: Readonly<Record<string, JsonValue>>;
}

/** The error a promise is rejected with. */
export async function seenError(call: Promise<unknown>): Promise<SeenError> {
  const error: unknown = await call.then(
    () => expect.fail("The call succeeded"),
    (reason: unknown) => reason,
  );
  return fromClientError(error);
}

/** The reason an error carries. */
export async function seenReason(call: Promise<unknown>): Promise<JsonValue | undefined> {
  return reasonOf(await seenError(call));
}

function reasonOf({ details }: SeenError): JsonValue | undefined {
  const info = details.ErrorInfo;
  return typeof info === "object" && info !== null && !Array.isArray(info) ? info.reason : undefined;
}

/** Reads what a Connect client, or grpc-js's, gave. */
export function fromClientError(error: unknown): SeenError {
  if (error instanceof ConnectError) {
    const details = known.flatMap((schema) =>
      error.findDetails(schema).map((detail) => [shortName(schema), toJson(schema, detail)] as const),
    );
    expect(details).toHaveLength(error.details.length);
    return { code: error.code, message: error.rawMessage, details: Object.fromEntries(details) };
  }
  if (isServiceError(error)) {
    return fromServiceError(error);
  }
  throw error;
}

const known = [ErrorInfoSchema, BadRequestSchema, RetryInfoSchema, QuotaFailureSchema];
const registry: Registry = createRegistry(...known);

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "metadata" in error && error.metadata instanceof Metadata;
}

function fromServiceError(error: ServiceError): SeenError {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  if (!(bytes instanceof Buffer)) {
    return { code: Number(error.code), message: error.details, details: {} };
  }
  const status = fromBinary(StatusSchema, bytes);
  expect(status).toMatchObject({ code: error.code, message: error.details });
  const details = status.details.map((any) => {
    const schema = registry.getMessage(any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1));
    const message = anyUnpack(any, registry);
    return schema === undefined || message === undefined
      ? expect.fail(`Unknown detail ${any.typeUrl}`)
      : ([shortName(schema), toJson(schema, message)] as const);
  });
  return { code: status.code, message: status.message, details: Object.fromEntries(details) };
}

function shortName(schema: DescMessage): string {
  return schema.name;
}
