/** Owns `leasehold pricing` and `leasehold quote`: what leases cost, asked without a credential. */
import { type Command, Option } from "commander";
import { GetPricingResponseSchema, Lease_Variant, QuoteLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import type { Pricing } from "#gen/leasehold/v1/pricing_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { CommandError } from "./exit-codes.ts";
import { print, printFields, printTable, show } from "./output.ts";
import { parseCount, parseDuration, parseSize } from "./parse-values.ts";
import { addScheduleOptions, type ScheduleOptions, scheduleOf } from "./schedule-options.ts";
import { showBytes, showDollars, showDuration } from "./show-values.ts";

const variants = {
  storage: Lease_Variant.STORAGE,
  mailbox: Lease_Variant.MAILBOX,
  checkpoint: Lease_Variant.CHECKPOINT,
  scratchpad: Lease_Variant.SCRATCHPAD,
  cron: Lease_Variant.CRON,
} as const;

interface QuoteOptions extends ClientOptions, ScheduleOptions {
  readonly variant?: keyof typeof variants;
  readonly versions?: number;
}

/** Adds the commands. */
export function addPricingCommands(program: Command): void {
  clientCommand(program, "pricing", "none", "show rates, bounds, limits and worked examples").action(
    async (options: ClientOptions) => {
      const shown = await connectAs("none", options).leases.getPricing({});
      show(options, GetPricingResponseSchema, shown, () => shown.pricing && printPricing(shown.pricing));
    },
  );

  const quoting = clientCommand(program, "quote", "none", "show what a lease would cost");
  addScheduleOptions(quoting)
    .argument("<size>", "such as 10MiB", parseSize)
    .argument("<duration>", "such as 24h", parseDuration)
    .addOption(
      new Option("--variant <variant>", "what it holds (default: by the options, or storage)").choices(
        Object.keys(variants),
      ),
    )
    .option("--versions <count>", "how many versions a checkpoint keeps (default: 10)", parseCount)
    .action(quote);
}

/** Only a checkpoint has versions, and only a cron a schedule, so that either says what is asked about. */
async function quote(sizeBytes: bigint, seconds: bigint, options: QuoteOptions): Promise<void> {
  const { leases } = connectAs("none", options);
  const schedule = scheduleOf(options);
  const name = options.variant ?? impliedVariant(options.versions !== undefined, schedule !== undefined);
  const retainedVersions = options.versions ?? 0;
  if (retainedVersions > 0 && name !== "checkpoint") {
    throw new CommandError("usage", `A ${name} lease has no versions: leave out --versions`);
  }
  if ((schedule === undefined) === (name === "cron")) {
    throw new CommandError(
      "usage",
      name === "cron"
        ? "Say when it fires: with --expression, --every or --at"
        : `A ${name} lease has no schedule: leave out --expression, --every and --at`,
    );
  }
  const quoted = await leases.quoteLease({
    variant: variants[name],
    sizeBytes,
    duration: { seconds },
    retainedVersions,
    ...(schedule === undefined ? {} : { schedule, timeZone: options.timeZone ?? "" }),
  });
  show(options, QuoteLeaseResponseSchema, quoted, () => {
    const firings = quoted.firings === 0n ? "" : ` for ${quoted.firings} firings`;
    print(`${showDollars(quoted.priceMicros)}${firings}`);
  });
}

function impliedVariant(hasVersions: boolean, hasSchedule: boolean): keyof typeof variants {
  return hasSchedule ? "cron" : hasVersions ? "checkpoint" : "storage";
}

function printPricing(pricing: Pricing): void {
  printFields({
    rate: `${showDollars(pricing.rateMicrosPerGibDay)} for one GiB for one day`,
    "at least": showDollars(pricing.minChargeMicros),
    firing: `${showDollars(pricing.firingMicros)} each, of a cron`,
    duration: `from ${showDuration(pricing.minDuration)} to ${showDuration(pricing.maxDuration)}`,
    version: `${pricing.pricingVersion}`,
  });
  for (const variant of pricing.variants) {
    const sizes = `${showBytes(variant.minSizeBytes)} to ${showBytes(variant.maxSizeBytes)}`;
    print("", `${variant.variant}: ${variant.description}`, `Its size, from ${sizes}: ${variant.sizeMeaning}`);
    if (variant.maxDuration !== undefined) {
      print(`Its duration, at most: ${showDuration(variant.maxDuration)}`);
    }
  }
  print("");
  printTable(
    ["EXAMPLE", "PRICE"],
    pricing.examples.map((example) => [example.description, showDollars(example.priceMicros)]),
    "There are no examples.",
  );
  print("");
  printTable(
    ["LIMIT", "VALUE", "WHAT IT BOUNDS"],
    pricing.limits.map((limit) => [limit.name, `${limit.value} ${limit.unit}`, limit.description]),
    "There are no limits.",
  );
}
