/** The code and the plain HTTP status of every reason in `error_reason.proto`. */
import { Code } from "@connectrpc/connect";
import type { ErrorReason } from "#gen/leasehold/v1/error_reason_pb.js";

/** The name of an ErrorReason without its prefix, as `google.rpc.ErrorInfo` carries it. */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** How one reason goes over the wire. */
export interface CatalogEntry {
  readonly code: Code;
  /** The status of plain HTTP routes. Connect has a map of its own. */
  readonly httpStatus: number;
}

/** Every reason, in the catalogue's order, which is the order of precedence. A test holds it to the proto's comments. */
export const errorCatalog: Readonly<Record<Reason, CatalogEntry>> = {
  CREDENTIAL_MISSING: { code: Code.Unauthenticated, httpStatus: 401 },
  CREDENTIAL_INVALID: { code: Code.Unauthenticated, httpStatus: 401 },
  SCOPE_MISSING: { code: Code.PermissionDenied, httpStatus: 403 },
  ACCOUNT_SUSPENDED: { code: Code.PermissionDenied, httpStatus: 403 },
  INVALID_FIELD: { code: Code.InvalidArgument, httpStatus: 400 },
  OUT_OF_BOUNDS: { code: Code.InvalidArgument, httpStatus: 400 },
  TOKEN_MALFORMED: { code: Code.InvalidArgument, httpStatus: 400 },
  CHECKSUM_MISMATCH: { code: Code.InvalidArgument, httpStatus: 400 },
  MALFORMED_REQUEST: { code: Code.InvalidArgument, httpStatus: 400 },
  NOT_FOUND: { code: Code.NotFound, httpStatus: 404 },
  UNKNOWN_METHOD: { code: Code.Unimplemented, httpStatus: 404 },
  LEASE_ENDED: { code: Code.FailedPrecondition, httpStatus: 410 },
  HANDOFF_EXHAUSTED: { code: Code.FailedPrecondition, httpStatus: 410 },
  HANDOFF_EXPIRED: { code: Code.FailedPrecondition, httpStatus: 410 },
  HANDOFF_REVOKED: { code: Code.FailedPrecondition, httpStatus: 410 },
  CLAIM_ENDED: { code: Code.FailedPrecondition, httpStatus: 410 },
  DROP_TOKEN_ROTATED: { code: Code.FailedPrecondition, httpStatus: 410 },
  VERSION_GONE: { code: Code.FailedPrecondition, httpStatus: 410 },
  HANDOFF_BUSY: { code: Code.Aborted, httpStatus: 409 },
  STREAM_SUPERSEDED: { code: Code.Aborted, httpStatus: 409 },
  REQUEST_ID_REUSED: { code: Code.AlreadyExists, httpStatus: 409 },
  WRONG_STATE: { code: Code.FailedPrecondition, httpStatus: 409 },
  WRONG_VARIANT: { code: Code.FailedPrecondition, httpStatus: 409 },
  READ_ACCESS_OWNER: { code: Code.FailedPrecondition, httpStatus: 409 },
  CLAIM_NOT_DELIVERED: { code: Code.FailedPrecondition, httpStatus: 409 },
  WORKFLOW_IN_USE: { code: Code.AlreadyExists, httpStatus: 409 },
  VERSION_MISMATCH: { code: Code.Aborted, httpStatus: 409 },
  NOT_A_COUNTER: { code: Code.FailedPrecondition, httpStatus: 409 },
  PAYMENT_REQUIRED: { code: Code.FailedPrecondition, httpStatus: 402 },
  PRICE_TOO_HIGH: { code: Code.FailedPrecondition, httpStatus: 409 },
  SPEND_CEILING: { code: Code.ResourceExhausted, httpStatus: 429 },
  OFFSET_MISMATCH: { code: Code.OutOfRange, httpStatus: 416 },
  RANGE_PAST_END: { code: Code.OutOfRange, httpStatus: 416 },
  BODY_TOO_LARGE: { code: Code.ResourceExhausted, httpStatus: 413 },
  CLAIM_BYTES_EXCEEDED: { code: Code.ResourceExhausted, httpStatus: 429 },
  DISK_FULL: { code: Code.ResourceExhausted, httpStatus: 507 },
  LIMIT_REACHED: { code: Code.ResourceExhausted, httpStatus: 429 },
  MAILBOX_FULL: { code: Code.ResourceExhausted, httpStatus: 429 },
  SCRATCHPAD_FULL: { code: Code.ResourceExhausted, httpStatus: 429 },
  DATABASE_UNAVAILABLE: { code: Code.Unavailable, httpStatus: 503 },
  DRAINING: { code: Code.Unavailable, httpStatus: 503 },
  OUTCOME_UNKNOWN: { code: Code.Unknown, httpStatus: 500 },
  DEADLINE: { code: Code.DeadlineExceeded, httpStatus: 504 },
  STALLED: { code: Code.DeadlineExceeded, httpStatus: 408 },
  CANCELLED: { code: Code.Canceled, httpStatus: 499 },
  INTERNAL: { code: Code.Internal, httpStatus: 500 },
};
