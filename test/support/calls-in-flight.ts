/** The signal that a server has taken up calls, or let go of them, whatever its peers still send or read. */

type Server = { readonly httpUrl: string };

/** Resolves once no call of a server is in flight, by its own metrics. */
export async function noCallInFlight(server: Server): Promise<void> {
  while ((await callsInFlight(server)) > 0) {
    // Asked again: the page is the signal.
  }
}

/** Resolves once so many calls of a server are in flight, all of which wait for the same thing. */
export async function callsGathered(server: Server, count: number): Promise<void> {
  while ((await callsInFlight(server)) < count) {
    // Asked again: the page is the signal.
  }
}

async function callsInFlight(server: Server): Promise<number> {
  const metrics = await (await fetch(`${server.httpUrl}/metrics`)).text();
  const counts = [...metrics.matchAll(/^leasehold_calls_in_flight\{.*\} (\d+)$/gm)].map(([, count]) => Number(count));
  return counts.reduce((sum, count) => sum + count, 0);
}
