/** Makes the table of worked examples in docs/pricing.md, at the default rates, by the code that prices leases. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { loadConfig } from "../../src/config/load-config.ts";
import { PricingView } from "../../src/pricing/pricing-view.ts";

/** The table. */
export function examplesTable(): string {
  const config = loadConfig({});
  const pricing = {
    formula: "bytes_seconds",
    description: "",
    sizeMeaning: "",
    minSizeBytes: 1n,
    maxSizeBytes: config.maxFileBytes,
  } as const;
  const shown = new PricingView([{ name: "storage", pricing }], []).show({
    pricingVersion: 1n,
    rateMicrosPerGibDay: config.rateMicrosPerGibDay,
    minChargeMicros: config.minChargeMicros,
    minDurationSeconds: BigInt(config.minDurationSeconds),
    maxDurationSeconds: BigInt(config.maxDurationSeconds),
    firingMicros: config.firingMicros,
  });
  const rows = shown.examples.map((example) => {
    const seconds = example.duration === undefined ? 0 : durationMs(example.duration) / 1000;
    const usd = (Number(example.priceMicros) / 1_000_000).toFixed(6);
    return `| ${example.description} | ${example.sizeBytes} | ${seconds} | ${example.priceMicros} | ${usd} |`;
  });
  return ["| lease | size_bytes | seconds | micro-dollars | USD |", "|---|---:|---:|---:|---:|", ...rows].join("\n");
}
