/** AdminService: what the operator does to accounts and prices, and the service's figures. */
import type { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { AccountEntity } from "../account/account-entities.ts";
import { showAccount } from "../account/account-view.ts";
import type { ServerKeys } from "../content/server-keys.ts";
import type { Database } from "../database/database.ts";
import type { LeaseVariant } from "../lease/lease-variant.ts";
import type { PricingBook } from "../pricing/pricing-book.ts";
import type { PricingView } from "../pricing/pricing-view.ts";
import { pageSizeOf, pageStart, toPage } from "../proto-values/paging.ts";
import { wholeSeconds } from "../proto-values/proto-time.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import type { Operator } from "./operator.ts";
import { OperatorAccounts } from "./operator-accounts.ts";
import { serviceStats } from "./service-stats.ts";

/** What the service needs. */
export interface AdminServiceOptions {
  readonly database: Database;
  readonly operator: Operator;
  readonly serverKeys: ServerKeys;
  /** The key that request digests are made with. */
  readonly digestKey: Uint8Array;
  readonly pricing: PricingBook;
  readonly pricingView: PricingView;
  /** Each is shown in the figures, also without leases. */
  readonly variants: readonly LeaseVariant[];
}

export function adminService(options: AdminServiceOptions): ServiceImplementation<typeof AdminService> {
  const { database, pricing, operator } = options;
  const accounts = new OperatorAccounts(options);
  return {
    async createAccount(request, call) {
      operator.require(call);
      const made = await accounts.make(request);
      return { account: showAccount(made.account), apiKey: made.secret };
    },

    async listAccounts(request, call) {
      operator.require(call);
      const pageSize = pageSizeOf(request);
      const start = pageStart("acc", request);
      const rows = await database.read((entities) =>
        entities.find(AccountEntity, start === undefined ? {} : { owner_id: { $lt: start } }, {
          orderBy: { owner_id: "desc" },
          limit: pageSize + 1,
        }),
      );
      const page = toPage(rows, pageSize, "acc", (row) => row.owner_id);
      return { accounts: page.rows.map(showAccount), nextPageToken: page.nextPageToken };
    },

    async suspendAccount(request, call) {
      operator.require(call);
      return { account: showAccount(await accounts.suspend(request.accountId)) };
    },

    async resumeAccount(request, call) {
      operator.require(call);
      return { account: showAccount(await accounts.resume(request.accountId)) };
    },

    async creditAccount(request, call) {
      operator.require(call);
      return { account: showAccount(await accounts.credit(request)) };
    },

    async setPricing(request, call) {
      operator.require(call);
      const terms = await pricing.change({
        rateMicrosPerGibDay: request.rateMicrosPerGibDay,
        minChargeMicros: request.minChargeMicros,
        minDurationSeconds: wholeSeconds("min_duration", request.minDuration),
        maxDurationSeconds: wholeSeconds("max_duration", request.maxDuration),
        firingMicros: request.firingMicros,
      });
      return { pricing: options.pricingView.show(terms) };
    },

    async getServiceStats(_request, call) {
      operator.require(call);
      return await serviceStats(database, options.variants);
    },
  };
}
