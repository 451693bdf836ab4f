/** Every call that makes, moves, shows or ends leases, at 100,000 leases of one account against 100. */
import type { LoadOperation } from "../harness/load-operations.ts";
import type { FigureSpec, Measure, Round, Scenario } from "../harness/measure.ts";
import { Snapshot } from "../harness/snapshot.ts";
import type { LeaseholdServer, Stage } from "../harness/stage.ts";

const few = 100;
const many = 100_000;

/** How many calls an operation makes for each second of a run: so many take about half of it. */
const callsPerSecond = 750;
/** A page of 50 costs about as much as so many calls. */
const pageShare = 5;

/** Of so many leases one has a body and a handoff; the others wait for their body. */
const activeShare = 5;

/** A server, and the leases of its account. */
interface Populated {
  readonly server: LeaseholdServer;
  readonly leaseIds: readonly string[];
  readonly activeIds: readonly string[];
}

export async function leaseCount(stage: Stage): Promise<Scenario> {
  const small = await populate(stage, await stage.leasehold("few"), few);
  const snapshot = await Snapshot.take(small.server.databaseUrl);
  const seed = await populate(stage, await stage.leasehold("many"), few);
  // Plans are made while the tables are small, and kept by the connections: so it is for a server that grows.
  await liveThrough(stage, [{ name: "seed", populated: seed }], callsPerSecond);
  const large = await populate(stage, seed.server, many - few);
  const servers = [
    { name: `${few}`, populated: small },
    { name: `${many}`, populated: large },
  ];
  return {
    legs: [(seconds) => liveThrough(stage, servers, Math.ceil(seconds * callsPerSecond))],
    figures: operations.map(figureOf),
    reset: () => snapshot.restore(),
  };
}

/** In the order in which `liveThrough` calls them. */
const operations: readonly LoadOperation[] = [
  "createRepeatableLease",
  "uploadSmall",
  "getLease",
  "listLeases",
  "downloadSmall",
  "issueHandoff",
  "inspectHandoff",
  "claimHandoff",
  "confirmClaim",
  "listHandoffs",
  "deleteLease",
  "getAccount",
  "listLedgerEntries",
];

function figureOf(operation: LoadOperation): FigureSpec {
  return {
    title: `${operation} at ${many} leases, against ${few}`,
    unit: "calls/s",
    subject: `${operation} ${many}`,
    baseline: `${operation} ${few}`,
    atLeast: 0.75,
  };
}

async function populate(stage: Stage, server: LeaseholdServer, count: number): Promise<Populated> {
  const leaseIds = await stage.call(server, { operation: "createRepeatableLease", stop: { calls: count } });
  const activeIds = leaseIds.filter((_, place) => place % activeShare === 0);
  await stage.call(server, { operation: "uploadSmall", inputs: activeIds, stop: "inputs" });
  await stage.call(server, { operation: "issueHandoff", inputs: activeIds, stop: "inputs" });
  return { server, leaseIds, activeIds };
}

/**
 * Makes so many leases, leads them through their life to the end, and reads others meanwhile. Each step is made on one
 * server and then on the other, in turns first, so that both meet the same disturbances.
 */
async function liveThrough(
  stage: Stage,
  servers: readonly { readonly name: string; readonly populated: Populated }[],
  calls: number,
): Promise<Round> {
  const measures = new Map<string, Measure>();
  let order = servers;
  const step = async (operation: LoadOperation, inputsOf: (populated: Populated) => readonly string[]) => {
    const outputs = new Map<Populated, readonly string[]>();
    order = order.toReversed();
    for (const { name, populated } of order) {
      const run = { operation, inputs: inputsOf(populated), stop: "inputs" } as const;
      const measured = await stage.measure(populated.server, `${operation} ${name}`, run);
      measures.set(`${operation} ${name}`, measured.measure);
      outputs.set(populated, measured.outputs);
    }
    return (populated: Populated) => outputs.get(populated) ?? [];
  };
  const calling = (count: number) => () => Array.from({ length: count }, () => "");
  const anyOf = (ids: readonly string[]) =>
    Array.from({ length: calls }, () => ids[Math.floor(Math.random() * ids.length)] ?? "");
  const made = await step("createRepeatableLease", calling(calls));
  await step("uploadSmall", made);
  await step("getLease", ({ leaseIds }) => anyOf(leaseIds));
  await step("listLeases", calling(calls / pageShare));
  await step("downloadSmall", ({ activeIds }) => anyOf(activeIds));
  const tokens = await step("issueHandoff", made);
  await step("inspectHandoff", tokens);
  const claims = await step("claimHandoff", tokens);
  await step("confirmClaim", claims);
  await step("listHandoffs", ({ activeIds }) => anyOf(activeIds));
  await step("deleteLease", made);
  await step("getAccount", calling(calls));
  await step("listLedgerEntries", calling(calls / pageShare));
  return measures;
}
