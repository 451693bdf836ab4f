/** Cron leases of a test, and how a test lets their time come. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type CronDetails,
  type CronRun,
  CronRun_Outcome,
  CronService,
  type CronSpecSchema,
} from "#gen/leasehold/v1/cron_pb.js";
import type { Database } from "../../src/database/database.ts";
import { askFor, type LeaseInit, leaseUuid, required, type Tenant } from "../support/tenant.ts";
import { query } from "../support/test-query.ts";

/** What a test asks of a Cron lease. */
export type CronInit = MessageInitShape<typeof CronSpecSchema>;

/** Makes a Cron lease for an hour that fires every ten minutes, unless said otherwise. */
export async function openCron(tenant: Tenant, spec: CronInit, request: LeaseInit = {}) {
  const schedule = { kind: { case: "every", value: { seconds: 600n } } } as const;
  const value = { schedule, payload: Buffer.from("wake up"), ...spec } as CronInit;
  const asked = askFor({ sizeBytes: 1_024n, ...request, variant: { case: "cron", value } } as LeaseInit);
  const { lease, webhookSecret } = await tenant.leases.createLease(asked);
  return { leaseId: required(lease).leaseId, lease: required(lease), webhookSecret };
}

export function cronsOf(tenant: Tenant): Client<typeof CronService> {
  return tenant.leasehold.client(CronService, tenant.account.apiKey);
}

/** What a Cron lease says of itself. */
export async function cronOf(tenant: Tenant, leaseId: string): Promise<CronDetails> {
  const { details } = await tenant.show(leaseId);
  if (details.case !== "cron") {
    throw new Error(`not a cron: ${details.case}`);
  }
  return details.value;
}

/** The runs of a lease, oldest slot first. */
export async function runsOf(tenant: Tenant, leaseId: string): Promise<CronRun[]> {
  const { runs } = await cronsOf(tenant).listCronRuns({ leaseId, pageSize: 1_000 });
  return runs.toReversed();
}

/** What became of the slots of a lease, oldest first. */
export async function outcomesOf(tenant: Tenant, leaseId: string): Promise<string[]> {
  return (await runsOf(tenant, leaseId)).map(({ outcome }) => CronRun_Outcome[outcome]);
}

/** Moves a schedule's times and runs into the past, so that it is as if that many seconds had passed for it. */
export async function letPass(database: Database, leaseId: string, seconds: number): Promise<void> {
  const values = [leaseUuid(leaseId), seconds];
  await query(
    database,
    `update cron
    set start_time = start_time - make_interval(secs => $2), end_time = end_time - make_interval(secs => $2),
      next_slot_time = next_slot_time - make_interval(secs => $2),
      next_fire_time = next_fire_time - make_interval(secs => $2), at_time = at_time - make_interval(secs => $2)
    where lease_id = $1`,
    values,
  );
  await query(
    database,
    `update cron_run
    set slot_time = slot_time - make_interval(secs => $2), due_time = due_time - make_interval(secs => $2)
    where lease_id = $1`,
    values,
  );
}

/** Lets the next attempts of waiting runs come, and their slots be so many seconds older. */
export async function letRetryCome(database: Database, leaseId: string, olderSeconds = 0): Promise<void> {
  await query(
    database,
    `update cron_run set next_attempt_time = clock_timestamp(), due_time = due_time - make_interval(secs => $2)
    where lease_id = $1 and outcome = 1`,
    [leaseUuid(leaseId), olderSeconds],
  );
}
