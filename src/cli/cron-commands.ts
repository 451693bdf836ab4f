/** Owns `leasehold cron`: leases that deliver a payload by the clock, made, paused, resumed, and their runs listed. */
import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import {
  CronDetails_StateSchema,
  type CronRun,
  CronRun_OutcomeSchema,
  CronSpec_Misfire,
  CronSpec_Overlap,
  type CronSpecSchema,
  ListCronRunsResponseSchema,
  PauseCronResponseSchema,
  ResumeCronResponseSchema,
} from "#gen/leasehold/v1/cron_pb.js";
import { type CreateLeaseResponse, CreateLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import { Retries } from "../client/retries.ts";
import { readBody } from "./body-input.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { CommandError } from "./exit-codes.ts";
import { addLeaseOptions, type LeaseOptions, leaseTerms } from "./lease-options.ts";
import { note, noteRetry, print, printTable, show } from "./output.ts";
import { parseCount, parseDuration, parseRequestId, parseSize } from "./parse-values.ts";
import { addScheduleOptions, type ScheduleOptions, scheduleOf } from "./schedule-options.ts";
import { showDollars, showEnum, showText, showTime } from "./show-values.ts";

interface CreateOptions extends ClientOptions, LeaseOptions, ScheduleOptions {
  readonly size?: bigint;
  readonly text?: string;
  readonly contentType?: string;
  readonly toMailbox?: string;
  readonly toScratchpad?: string;
  readonly key?: string;
  readonly toWebhook?: string;
  readonly overlap?: keyof typeof overlaps;
  readonly misfire?: keyof typeof misfires;
  readonly maxLateness?: bigint;
  readonly jitter?: bigint;
  readonly requestId?: string;
}

interface ListOptions extends ClientOptions {
  readonly limit?: number;
}

const overlaps = {
  allow: CronSpec_Overlap.ALLOW,
  skip: CronSpec_Overlap.SKIP,
  replace: CronSpec_Overlap.REPLACE,
} as const;
const misfires = {
  all: CronSpec_Misfire.FIRE_ALL,
  last: CronSpec_Misfire.FIRE_LAST,
  skip: CronSpec_Misfire.SKIP,
} as const;

/** The largest payload that any lease takes. */
const largestPayloadBytes = 1024 * 1024;

/** Adds the commands. */
export function addCronCommands(program: Command): void {
  const cron = program.command("cron").description("leases that deliver a payload by the clock");
  addCreate(cron);

  clientCommand(cron, "pause <lease>", "api key", "stop firing until it is resumed").action(pause);

  clientCommand(cron, "resume <lease>", "api key", "go on with the next slot; prints its time").action(resume);

  clientCommand(cron, "runs <lease>", "api key", "list what became of each slot that has come, newest first")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(listRuns);
}

function addCreate(cron: Command): void {
  const create = clientCommand(cron, "create [file]", "api key", "lease a schedule; prints the lease's id")
    .addHelpText("after", "\nThe payload comes from stdin if no file is named, or the file is `-`.")
    .requiredOption("--duration <duration>", "how long it lasts, such as 24h", parseDuration);
  addScheduleOptions(create)
    .option("--text <text>", "the payload itself, instead of a file")
    .option("--content-type <type>", "the media type of the payload (default: application/octet-stream)")
    .option("--to-mailbox <lease>", "drop it into this mailbox of yours")
    .option("--to-scratchpad <lease>", "set it as an entry of this scratchpad of yours")
    .option("--key <key>", "the entry, with --to-scratchpad")
    .option("--to-webhook <address>", "post it there, signed")
    .addOption(
      new Option(
        "--overlap <policy>",
        "when a slot comes while an earlier run is being delivered (default: allow)",
      ).choices(Object.keys(overlaps)),
    )
    .addOption(
      new Option("--misfire <policy>", "which slots fire that are found late (default: all)").choices(
        Object.keys(misfires),
      ),
    )
    .option("--max-lateness <duration>", "how late a run is still delivered (default: 1h)", parseDuration)
    .option("--jitter <duration>", "put each slot off by chance, by at most this", parseDuration)
    .option("--size <size>", "the largest payload (default: that of this one)", parseSize)
    .option("--request-id <uuid>", "repeats with the same id find the same lease, and charge nothing", parseRequestId);
  addLeaseOptions(create).action(createCron);
}

async function createCron(file: string | undefined, options: CreateOptions): Promise<void> {
  const { leases } = connectAs("api key", options);
  const terms = termsOf(options);
  const payload = await readBody({ file, text: options.text }, largestPayloadBytes, "the most that is delivered");
  const requestId = options.requestId ?? randomUUID();
  const sizeBytes = options.size ?? BigInt(Math.max(1, payload.length));
  const made = await retried(options, () =>
    leases.createLease({
      ...leaseTerms(options),
      requestId,
      sizeBytes,
      variant: { case: "cron", value: { ...terms, payload } },
    }),
  );
  show(options, CreateLeaseResponseSchema, made, () => describe(made));
}

/** Repeated while that may help: each of these calls does once what it does, however often it is made. */
async function retried<Answer>(options: ClientOptions, call: () => Promise<Answer>): Promise<Answer> {
  return await new Retries(undefined, noteRetry(options)).until(call, isTransientCallError);
}

/** @throws CommandError if the options do not fit together. */
function termsOf(options: CreateOptions): MessageInitShape<typeof CronSpecSchema> {
  const schedule = scheduleOf(options);
  if (schedule === undefined) {
    throw new CommandError("usage", "Say when to fire: with --expression, --every or --at");
  }
  return {
    schedule,
    timeZone: options.timeZone ?? "",
    contentType: options.contentType ?? "",
    target: targetOf(options),
    scratchpadKey: options.key ?? "",
    ...(options.overlap === undefined ? {} : { overlap: overlaps[options.overlap] }),
    ...(options.misfire === undefined ? {} : { misfire: misfires[options.misfire] }),
    ...(options.maxLateness === undefined ? {} : { maxLateness: { seconds: options.maxLateness } }),
    ...(options.jitter === undefined ? {} : { jitter: { seconds: options.jitter } }),
  };
}

function targetOf({ toMailbox, toScratchpad, toWebhook, key }: CreateOptions) {
  if ([toMailbox, toScratchpad, toWebhook].filter((target) => target !== undefined).length !== 1) {
    throw new CommandError("usage", "Say where to deliver: with one of --to-mailbox, --to-scratchpad and --to-webhook");
  }
  if ((toScratchpad === undefined) !== (key === undefined)) {
    throw new CommandError("usage", "--to-scratchpad and --key belong together");
  }
  if (toMailbox !== undefined) {
    return { case: "mailboxLeaseId", value: toMailbox } as const;
  }
  return toScratchpad === undefined
    ? ({ case: "webhookUrl", value: toWebhook ?? "" } as const)
    : ({ case: "scratchpadLeaseId", value: toScratchpad } as const);
}

function describe({ lease, webhookSecret }: CreateLeaseResponse): void {
  const cron = lease?.details.case === "cron" ? lease.details.value : undefined;
  const times = cron?.firings === 1n ? "once" : `${cron?.firings ?? 0n} times`;
  note(`Fires ${times} until ${showTime(lease?.expireTime)} for ${showDollars(lease?.priceMicros ?? 0n)}`);
  if (webhookSecret !== "") {
    note(`What is posted is signed with ${webhookSecret}, which is shown here and nowhere else: keep it.`);
  }
  print(lease?.leaseId ?? "");
}

async function pause(leaseId: string, options: ClientOptions): Promise<void> {
  const { crons } = connectAs("api key", options);
  const paused = await retried(options, () => crons.pauseCron({ leaseId }));
  show(options, PauseCronResponseSchema, paused, () => print(showEnum(CronDetails_StateSchema, paused.state)));
}

async function resume(leaseId: string, options: ClientOptions): Promise<void> {
  const { crons } = connectAs("api key", options);
  const resumed = await retried(options, () => crons.resumeCron({ leaseId }));
  show(options, ResumeCronResponseSchema, resumed, () => {
    const { state, nextSlotTime } = resumed;
    print(nextSlotTime === undefined ? showEnum(CronDetails_StateSchema, state) : showTime(nextSlotTime));
  });
}

async function listRuns(leaseId: string, options: ListOptions): Promise<void> {
  const { crons } = connectAs("api key", options);
  const { items: runs, nextPageToken } = await collectPages(options.limit, async (page) => {
    const listed = await crons.listCronRuns({ leaseId, ...page });
    return { items: listed.runs, nextPageToken: listed.nextPageToken };
  });
  show(options, ListCronRunsResponseSchema, { runs, nextPageToken }, () => printRuns(runs));
}

function printRuns(runs: readonly CronRun[]): void {
  printTable(
    ["SLOT", "OUTCOME", "FIRED", "DELIVERED", "ATTEMPTS", "AGAIN AT", "LAST ERROR"],
    runs.map((run) => [
      showTime(run.slotTime),
      showEnum(CronRun_OutcomeSchema, run.outcome),
      showTime(run.fireTime),
      showTime(run.deliverTime),
      `${run.attemptCount}`,
      showTime(run.nextAttemptTime),
      showText(run.lastError),
    ]),
    "No slot has come yet.",
  );
}
