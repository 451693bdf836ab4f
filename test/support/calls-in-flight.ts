/** The signal that a server has let go of every call, whatever its peers still read. */

/** Resolves once no call of a server is in flight, by its own metrics. */
export async function noCallInFlight(server: { readonly httpUrl: string }): Promise<void> {
  for (;;) {
    const metrics = await (await fetch(`${server.httpUrl}/metrics`)).text();
    const counts = [...metrics.matchAll(/^leasehold_calls_in_flight\{.*\} (\d+)$/gm)].map(([, count]) => Number(count));
    if (counts.every((count) => count === 0)) {
      return;
    }
  }
}
