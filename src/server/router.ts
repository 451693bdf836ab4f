/** Finds the plain route of a path. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { HttpExchange } from "./http-exchange.ts";
import type { MountOptions } from "./service-implementation.ts";

/** A plain HTTP route. */
export interface Route {
  /** GET serves HEAD too, unless HEAD has a route of its own. */
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE";
  /** `/api/claim/:token`: a segment that starts with a colon matches any one segment and names it. */
  readonly path: string;
  /** The RPC that the route is another form of: it says whether the call has a deadline, and what scope it needs. */
  readonly rpc: DescMethod;
  /** As of the RPC's service. */
  readonly authenticate?: MountOptions["authenticate"];
  handle(exchange: HttpExchange): Promise<void>;
}

/** What a path and a method lead to. */
export type RouteMatch =
  | { readonly kind: "found"; readonly route: Route; readonly params: Readonly<Record<string, string>> }
  | { readonly kind: "wrong-method"; readonly allowed: readonly string[] }
  | { readonly kind: "malformed" }
  | { readonly kind: "unknown" };

/** A dozen routes are tried one after the other. */
export class Router {
  readonly #routes: readonly { readonly route: Route; readonly segments: readonly string[] }[];

  constructor(routes: readonly Route[]) {
    this.#routes = routes.map((route) => ({ route, segments: route.path.split("/") }));
  }

  find(method: string, path: string): RouteMatch {
    const segments = path.split("/");
    const candidates = this.#routes.filter((candidate) => matches(candidate.segments, segments));
    if (candidates.length === 0) {
      return { kind: "unknown" };
    }
    const found =
      candidates.find(({ route }) => route.method === method) ??
      candidates.find(({ route }) => method === "HEAD" && route.method === "GET");
    if (found === undefined) {
      return { kind: "wrong-method", allowed: allowedMethods(candidates.map(({ route }) => route.method)) };
    }
    const params = readParams(found.segments, segments);
    return params === undefined ? { kind: "malformed" } : { kind: "found", route: found.route, params };
  }
}

function matches(pattern: readonly string[], segments: readonly string[]): boolean {
  return (
    pattern.length === segments.length &&
    pattern.every((part, index) => (part.startsWith(":") ? segments[index] !== "" : part === segments[index]))
  );
}

function allowedMethods(methods: readonly string[]): readonly string[] {
  return [...new Set([...methods, ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"])];
}

/** Undefined if a segment's percent-encoding is broken. */
function readParams(
  pattern: readonly string[],
  segments: readonly string[],
): Readonly<Record<string, string>> | undefined {
  try {
    return Object.fromEntries(
      pattern.flatMap((part, index) =>
        part.startsWith(":") ? [[part.slice(1), decodeURIComponent(segments[index] ?? "")]] : [],
      ),
    );
  } catch (error) {
    if (error instanceof URIError) {
      return undefined;
    }
    throw error;
  }
}
