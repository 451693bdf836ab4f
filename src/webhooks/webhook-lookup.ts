/**
 * How the name of a webhook's receiver becomes addresses, without one slow name server holding up the other receivers.
 */
import type { LookupAddress } from "node:dns";
import { Resolver } from "node:dns/promises";
import type { LookupFunction } from "node:net";

/** How long one question to a name server may take, in milliseconds. */
const questionMs = 2_000;
const questionTries = 3;

/** Codes of a look-up that gives no address. */
export const lookupFailures = { notFound: "ENOTFOUND", notPublic: "NAME_NOT_PUBLIC" } as const;

/**
 * Looks names up by asking the name servers: the system's, or those given as addresses with ports. The system's own
 * look-up would take one of Node's few threads for as long as it lasts, and whoever owns a name decides how long that
 * is. A name without a dot is of this host or its network, and is refused unasked.
 */
export function receiverLookup(servers?: readonly string[]): LookupFunction {
  return (hostname, options, callback) => {
    addressesOf(hostname, servers).then(
      (addresses) => {
        const fitting = addresses.filter(
          ({ family }) => ![4, 6].includes(Number(options.family)) || family === options.family,
        );
        const [first] = fitting;
        if (first === undefined) {
          callback(failure(lookupFailures.notFound), []);
        } else if (options.all === true) {
          callback(null, fitting);
        } else {
          callback(null, first.address, first.family);
        }
      },
      (error: NodeJS.ErrnoException) => callback(error, []),
    );
  };
}

async function addressesOf(hostname: string, servers: readonly string[] | undefined): Promise<LookupAddress[]> {
  if (!hostname.includes(".")) {
    throw failure(lookupFailures.notPublic);
  }
  const resolver = new Resolver({ timeout: questionMs, tries: questionTries });
  if (servers !== undefined) {
    resolver.setServers(servers);
  }
  const [four, six] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
  return [...toAddresses(four, 4), ...toAddresses(six, 6)];
}

function toAddresses(answer: PromiseSettledResult<string[]>, family: 4 | 6): LookupAddress[] {
  return answer.status === "fulfilled" ? answer.value.map((address) => ({ address, family })) : [];
}

function failure(code: (typeof lookupFailures)[keyof typeof lookupFailures]): NodeJS.ErrnoException {
  return Object.assign(new Error("the name gives no address"), { code });
}
