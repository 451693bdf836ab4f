/** What a Storage lease keeps sealed in its row: the StorageDetails of the proto, as protobuf bytes. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type StorageDetails, StorageDetailsSchema } from "#gen/leasehold/v1/storage_pb.js";

/** The media type of a body that was given none: RFC 2046, section 4.5.1. */
export const defaultContentType = "application/octet-stream";

/** Packs details for sealing. stored_bytes is the row's and is left out. */
export function packDetails(details: Pick<StorageDetails, "fileName" | "contentType" | "sha256">): Uint8Array {
  return toBinary(StorageDetailsSchema, create(StorageDetailsSchema, details));
}

/** Unpacks opened details; empty ones once they are destroyed. */
export function unpackDetails(packed: Uint8Array | undefined): StorageDetails {
  return packed === undefined ? create(StorageDetailsSchema) : fromBinary(StorageDetailsSchema, packed);
}
