/** The headers of answers that carry tenants' content: nothing keeps them, guesses at them, or lets them act. */
import { create as contentDisposition } from "content-disposition";

/** What every answer for content or for a claim carries. */
export const guardedHeaders = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "content-security-policy": "sandbox; default-src 'none'",
} as const;

/** What is known of a body that is sent. */
export interface SentBody {
  readonly name: string;
  readonly contentType: string;
  readonly sha256: Uint8Array;
}

/** The headers of a body that a browser is to save, not to show. */
export function bodyHeaders(body: SentBody): Record<string, string> {
  const headers: Record<string, string> = {
    ...guardedHeaders,
    "content-type": body.contentType,
    "content-disposition": contentDisposition(body.name === "" ? undefined : body.name, { type: "attachment" }),
    "accept-ranges": "bytes",
  };
  if (body.sha256.length > 0) {
    headers.etag = `"${Buffer.from(body.sha256).toString("hex")}"`;
    headers["repr-digest"] = `sha-256=:${Buffer.from(body.sha256).toString("base64")}:`;
  }
  return headers;
}
