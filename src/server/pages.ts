/** The pages for those who run the server: is it alive, is it ready, and its metrics. */
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { unknownMethod } from "./call-failures.ts";
import { sendHttpError } from "./http-exchange.ts";
import { type HttpRequest, type HttpResponse, writeHead } from "./http-wire.ts";

/** A page that is no call: it has no credential, no deadline, and is served while the server drains. */
export interface Page {
  readonly path: string;
  answer(request: HttpRequest, response: HttpResponse): Promise<void>;
}

/** Whether the server should be sent calls, and what that rests on. */
export interface Readiness {
  readonly ready: boolean;
  /** Shown to anybody who asks: no secrets, and nothing of a tenant. */
  readonly detail: Readonly<Record<string, unknown>>;
}

/** `/healthz` answers as long as the process serves at all. */
export function healthPage(): Page {
  return page("/healthz", () => Promise.resolve(json(200, { alive: true })));
}

/** `/readyz` is 503 while the server starts, drains, or cannot do its work. */
export function readinessPage(readiness: () => Promise<Readiness>, logger: Logger): Page {
  return page("/readyz", async () => {
    try {
      const { ready, detail } = await readiness();
      return json(ready ? 200 : 503, { ready, ...detail });
    } catch (error) {
      logger.warn({ err: error }, "readiness could not be told");
      return json(503, { ready: false });
    }
  });
}

/** `/metrics` in the text format of Prometheus. */
export function metricsPage(registry: Registry): Page {
  return page("/metrics", async () => ({
    status: 200,
    contentType: registry.contentType,
    body: await registry.metrics(),
  }));
}

interface PageAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

function page(path: string, render: () => Promise<PageAnswer>): Page {
  return {
    path,
    async answer(request, response) {
      if (request.method !== "GET" && request.method !== "HEAD") {
        const headers = { allow: "GET, HEAD, OPTIONS" };
        sendHttpError(request, response, unknownMethod(`${request.method} for this path`), { status: 405, headers });
        return;
      }
      const { status, contentType, body } = await render();
      const bytes = Buffer.from(body);
      writeHead(response, status, {
        "content-type": contentType,
        "content-length": `${bytes.byteLength}`,
        "cache-control": "no-store",
      });
      response.end(request.method === "HEAD" ? "" : bytes);
    },
  };
}

function json(status: number, value: unknown): PageAnswer {
  return { status, contentType: "application/json", body: JSON.stringify(value) };
}
