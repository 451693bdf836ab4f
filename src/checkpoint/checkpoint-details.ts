/** What Checkpoint keeps sealed, as protobuf bytes: of a lease its CheckpointDetails, of a version its type, metadata and SHA-256. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type Checkpoint,
  type CheckpointDetails,
  CheckpointDetailsSchema,
  CheckpointSchema,
} from "#gen/leasehold/v1/checkpoint_pb.js";
import type { SealContext } from "../content/sealing.ts";

/** How many versions are kept where a lease does not say: as many as are free. */
export const defaultRetainedVersions = 10;
export const maxRetainedVersions = 100;

/** The media type of a body that was given none: RFC 2046, section 4.5.1. */
export const defaultContentType = "application/octet-stream";

/** Packs what a lease keeps. The latest version is the row's and is left out. */
export function packDetails(details: Pick<CheckpointDetails, "workflowId" | "retainedVersions">): Uint8Array {
  return toBinary(CheckpointDetailsSchema, create(CheckpointDetailsSchema, details));
}

/** Unpacks opened details; empty ones once they are destroyed. */
export function unpackDetails(packed: Uint8Array | undefined): CheckpointDetails {
  return packed === undefined ? create(CheckpointDetailsSchema) : fromBinary(CheckpointDetailsSchema, packed);
}

/** What a version keeps sealed beside its body. */
export type VersionDetails = Pick<Checkpoint, "contentType" | "metadata" | "sha256">;

/** Packs what a version keeps. */
export function packVersion(details: VersionDetails): Uint8Array {
  return toBinary(CheckpointSchema, create(CheckpointSchema, details));
}

/** Unpacks what packVersion made. */
export function unpackVersion(packed: Uint8Array): VersionDetails {
  return fromBinary(CheckpointSchema, packed);
}

/** The place of a version's details. */
export function versionPart(bodyId: string): Pick<SealContext, "kind" | "objectId" | "partIndex" | "final"> {
  return { kind: "checkpoint", objectId: bodyId, partIndex: 0, final: true };
}
