/** The plain HTTP form of prices: `GET /api/pricing` and `GET /api/quote`, without credentials. */
import { create } from "@bufbuild/protobuf";
import { GetPricingResponseSchema, LeaseService, QuoteLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { invalidField } from "../errors/leasehold-error.ts";
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
        });
        const response = create(QuoteLeaseResponseSchema, quote);
        await exchange.sendMessage(QuoteLeaseResponseSchema, response);
      },
    },
  ];
}

function wholeNumber(query: URLSearchParams, name: string, unset = ""): bigint {
  const text = query.get(name) ?? unset;
  if (!/^\d{1,18}$/.test(text)) {
    throw invalidField(name, "must be a whole number");
  }
  return BigInt(text);
}
