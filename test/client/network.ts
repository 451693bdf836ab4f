/** A server behind a network that breaks where a test wants it to, and connections by way of it. */
import { onTestFinished } from "vitest";
import { CuttingProxy } from "../../demo/cutting-proxy.ts";
import { type Connection, connect } from "../../src/client/connection.ts";
import type { RetryPolicy } from "../../src/client/retries.ts";
import type { TestLeasehold } from "../support/test-leasehold.ts";

/** Waits for next to nothing, so that tests are about what happens and not about when. */
export const impatient: RetryPolicy = { maxFailures: 8, firstDelayMs: 5, longestDelayMs: 20 };

/** A proxy before a server's HTTP door. */
export async function openProxy(leasehold: TestLeasehold): Promise<CuttingProxy> {
  const proxy = await CuttingProxy.open(leasehold.server.addresses.http.port);
  onTestFinished(() => proxy.close());
  return proxy;
}

/** A connection through a proxy. */
export function connectThrough(proxy: CuttingProxy, bearer?: string): Connection {
  return connect({ url: proxy.url, bearer });
}
