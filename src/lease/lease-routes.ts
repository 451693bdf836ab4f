/** The plain HTTP form of prices: `GET /api/pricing` and `GET /api/quote`, without credentials. */
import { create, fromJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type CronSchedule, CronScheduleSchema } from "#gen/leasehold/v1/cron_pb.js";
import { GetPricingResponseSchema, LeaseService, QuoteLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { invalidField } from "../errors/leasehold-error.ts";
import { toDuration } from "../proto-values/proto-time.ts";
import type { Route } from "../server/router.ts";
import { quoteLease } from "./lease-quote.ts";
import type { LeaseServiceOptions } from "./lease-service.ts";

/** The routes of prices. */
export function leaseRoutes(options: LeaseServiceOptions): Route[] {
  return [
    {
      method: "GET",
      path: "/api/pricing",
      rpc: LeaseService.method.getPricing,
      async handle(exchange) {
        const pricing = options.pricingView.show(await options.pricing.current());
        await exchange.sendMessage(GetPricingResponseSchema, create(GetPricingResponseSchema, { pricing }));
      },
    },
    {
      method: "GET",
      path: "/api/quote",
      rpc: LeaseService.method.quoteLease,
      async handle(exchange) {
        const variant = options.variants.named(exchange.query.get("variant") ?? undefined);
        const quote = await quoteLease(options.pricing, variant, {
          sizeBytes: wholeNumber(exchange.query, "size_bytes"),
          durationSeconds: wholeNumber(exchange.query, "duration_seconds"),
          retainedVersions: Number(wholeNumber(exchange.query, "retained_versions", "0")),
          schedule: scheduleOf(exchange.query),
          timeZone: exchange.query.get("time_zone") ?? "",
        });
        const response = create(QuoteLeaseResponseSchema, quote);
        await exchange.sendMessage(QuoteLeaseResponseSchema, response);
      },
    },
  ];
}

/**
 * A schedule, by one of its kinds: `expression`, `every_seconds`, or `at` as an RFC 3339 time.
 *
 * @throws LeaseholdError INVALID_FIELD.
 */
function scheduleOf(query: URLSearchParams): CronSchedule | undefined {
  const kinds = ["expression", "every_seconds", "at"].filter((kind) => query.has(kind));
  const [kind, another] = kinds;
  if (another !== undefined) {
    throw invalidField(another, `must not be set beside ${kind}`);
  }
  switch (kind) {
    case "expression":
      return create(CronScheduleSchema, { kind: { case: "expression", value: query.get("expression") ?? "" } });
    case "every_seconds":
      return create(CronScheduleSchema, {
        kind: { case: "every", value: toDuration(wholeNumber(query, "every_seconds")) },
      });
    case "at":
      return create(CronScheduleSchema, { kind: { case: "at", value: timeOf(query.get("at") ?? "") } });
    default:
      return undefined;
  }
}

function timeOf(text: string): Timestamp {
  try {
    return fromJson(TimestampSchema, text);
  } catch {
    throw invalidField("at", "must be a time as in RFC 3339");
  }
}

function wholeNumber(query: URLSearchParams, name: string, unset = ""): bigint {
  const text = query.get(name) ?? unset;
  if (!/^\d{1,18}$/.test(text)) {
    throw invalidField(name, "must be a whole number");
  }
  return BigInt(text);
}
