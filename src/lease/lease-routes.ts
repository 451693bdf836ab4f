/** The plain HTTP form of prices: `GET /api/pricing` and `GET /api/quote`, without credentials. */
import { create } from "@bufbuild/protobuf";
import { GetPricingResponseSchema, LeaseService, QuoteLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { invalidField } from "../errors/leasehold-error.ts";
import { priceLease } from "../pricing/pricing-book.ts";
import type { Route } from "../server/router.ts";
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
        const terms = await options.pricing.current();
        const priceMicros = priceLease(terms, {
          ...variant.pricing,
          sizeBytes: wholeNumber(exchange.query, "size_bytes"),
          durationSeconds: wholeNumber(exchange.query, "duration_seconds"),
        });
        const response = create(QuoteLeaseResponseSchema, { priceMicros, pricingVersion: terms.pricingVersion });
        await exchange.sendMessage(QuoteLeaseResponseSchema, response);
      },
    },
  ];
}

function wholeNumber(query: URLSearchParams, name: string): bigint {
  const text = query.get(name) ?? "";
  if (!/^\d{1,18}$/.test(text)) {
    throw invalidField(name, "must be a whole number");
  }
  return BigInt(text);
}
