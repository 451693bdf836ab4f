/** Lets web pages of other origins call the HTTP door. */
import { cors as connectCors } from "@connectrpc/connect";
import type { HttpRequest, HttpResponse } from "./http-wire.ts";

/** Answers preflights, and marks answers as readable. Credentials are bearer tokens, never cookies, so `*` gives nothing away. */
export class Cors {
  readonly #origins: ReadonlySet<string>;

  /** `["*"]` allows every origin. */
  constructor(origins: readonly string[]) {
    this.#origins = new Set(origins);
  }

  /** Returns true if the request was a preflight, which is then answered. */
  apply(request: HttpRequest, response: HttpResponse): boolean {
    const { origin } = request.headers;
    const isAllowed = this.#mark(origin, response);
    if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) {
      return false;
    }
    if (isAllowed) {
      response.setHeader("access-control-allow-methods", allowedMethods);
      const asked = request.headers["access-control-request-headers"] ?? "";
      response.setHeader("access-control-allow-headers", [...allowedHeaders, ...attributesAmong(asked)].join(", "));
      // The longest that Chromium keeps it, in seconds.
      response.setHeader("access-control-max-age", "7200");
    }
    response.statusCode = 204;
    response.end();
    return true;
  }

  #mark(origin: string | undefined, response: HttpResponse): boolean {
    const isOpen = this.#origins.has("*");
    if (!isOpen) {
      response.setHeader("vary", "origin");
    }
    if (origin === undefined || !(isOpen || this.#origins.has(origin))) {
      return false;
    }
    response.setHeader("access-control-allow-origin", isOpen ? "*" : origin);
    response.setHeader("access-control-expose-headers", exposedHeaders);
    return true;
  }
}

const allowedMethods = [...connectCors.allowedMethods, "HEAD", "PUT", "DELETE"].join(", ");

const allowedHeaders = [
  ...connectCors.allowedHeaders,
  "authorization",
  "content-range",
  "if-range",
  "leasehold-claim-id",
  "leasehold-delay",
  "leasehold-group",
  "leasehold-request-id",
  "range",
  "repr-digest",
];

/** The headers of a drop's attributes, whose names are the dropper's own. */
function attributesAmong(asked: string): string[] {
  return asked
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => /^leasehold-attribute-[a-z0-9._-]{1,63}$/.test(name));
}

const exposedHeaders = [
  ...connectCors.exposedHeaders,
  "accept-ranges",
  "content-disposition",
  "content-length",
  "content-range",
  "etag",
  "leasehold-claim-id",
  "repr-digest",
  "retry-after",
  "www-authenticate",
].join(", ");
