/** Owns `leasehold pricing` and `leasehold quote`: what leases cost, asked without a credential. */
import type { Command } from "commander";
import { GetPricingResponseSchema, Lease_Variant, QuoteLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import type { Pricing } from "#gen/leasehold/v1/pricing_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { print, printFields, printTable, show } from "./output.ts";
import { parseDuration, parseSize } from "./parse-values.ts";
import { showBytes, showDollars, showDuration } from "./show-values.ts";

/** Adds the commands. */
export function addPricingCommands(program: Command): void {
  clientCommand(program, "pricing", "none", "show rates, bounds, limits and worked examples").action(
    async (options: ClientOptions) => {
      const shown = await connectAs("none", options).leases.getPricing({});
      show(options, GetPricingResponseSchema, shown, () => shown.pricing && printPricing(shown.pricing));
    },
  );

  clientCommand(program, "quote", "none", "show what a lease would cost")
    .argument("<size>", "such as 10MiB", parseSize)
    .argument("<duration>", "such as 24h", parseDuration)
    .action(async (sizeBytes: bigint, seconds: bigint, options: ClientOptions) => {
      const { leases } = connectAs("none", options);
      const quote = await leases.quoteLease({ variant: Lease_Variant.STORAGE, sizeBytes, duration: { seconds } });
      show(options, QuoteLeaseResponseSchema, quote, () => print(showDollars(quote.priceMicros)));
    });
}

function printPricing(pricing: Pricing): void {
  printFields({
    rate: `${showDollars(pricing.rateMicrosPerGibDay)} for one GiB for one day`,
    "at least": showDollars(pricing.minChargeMicros),
    duration: `from ${showDuration(pricing.minDuration)} to ${showDuration(pricing.maxDuration)}`,
    version: `${pricing.pricingVersion}`,
  });
  for (const variant of pricing.variants) {
    const sizes = `${showBytes(variant.minSizeBytes)} to ${showBytes(variant.maxSizeBytes)}`;
    print("", `${variant.variant}: ${variant.description}`, `Its size, from ${sizes}: ${variant.sizeMeaning}`);
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
