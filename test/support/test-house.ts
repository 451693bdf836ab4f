/** Accounts, keys, money and the operator over a fresh database, without a server: implementations called as they are. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll } from "vitest";
import { ApiKeySchema, CreateApiKeyRequestSchema, CreateApiKeyResponseSchema } from "#gen/leasehold/v1/account_pb.js";
import { CreateAccountRequestSchema, CreditAccountRequestSchema } from "#gen/leasehold/v1/admin_pb.js";
import {
  CreateLeaseRequestSchema,
  Lease_ReadAccess,
  Lease_Variant,
  Lease_WriteAccess,
} from "#gen/leasehold/v1/lease_pb.js";
import { accountService } from "../../src/account/account-service.ts";
import { Callers } from "../../src/account/caller.ts";
import { scopeBits } from "../../src/account/scopes.ts";
import { adminService } from "../../src/admin/admin-service.ts";
import { Operator } from "../../src/admin/operator.ts";
import type { KeyFolder } from "../../src/content/key-folder.ts";
import type { Database } from "../../src/database/database.ts";
import { DatabaseClock } from "../../src/database/database-clock.ts";
import { type AccountUuid, type LeaseUuid, parseId } from "../../src/ids/ids.ts";
import { openKeyFolder } from "../../src/installation/installation.ts";
import { LeaseMaker } from "../../src/lease/lease-maker.ts";
import { LeaseSeals } from "../../src/lease/lease-seals.ts";
import { endLeasesOfCaller } from "../../src/lease/lease-statements.ts";
import { asStream, type LeaseVariant, LeaseVariants } from "../../src/lease/lease-variant.ts";
import { PricingBook } from "../../src/pricing/pricing-book.ts";
import { PricingView } from "../../src/pricing/pricing-view.ts";
import type { Call } from "../../src/server/call.ts";
import { fakeCall } from "./fake-call.ts";
import { testDatabase } from "./test-database.ts";

export const operatorToken = "the operator's token of the tests";

/** An account of a test. */
export interface HouseAccount {
  readonly accountId: string;
  readonly ownerId: AccountUuid;
  readonly apiKey: string;
  /** A call by its first key. */
  readonly call: Call;
}

/** Leases cost 1000 micro-dollars, the least there is, and wait for content that never comes. */
const box: LeaseVariant = {
  variant: Lease_Variant.STORAGE,
  name: "box",
  writeAccess: Lease_WriteAccess.OWNER_ONCE,
  pricing: { formula: "bytes_seconds", description: "", sizeMeaning: "", minSizeBytes: 1n, maxSizeBytes: 1024n },
  waitsForContent: true,
  hasOneItem: true,
  specify: () => ({ details: Buffer.of() }),
  details: (leases) => leases.map(() => ({ case: undefined })),
  openContent: async () => ({ totalBytes: 0n, itemCount: 0n, items: () => asStream([]) }),
  destroy: async () => undefined,
  removeOrphans: async () => 0,
};
export const leasePriceMicros = 1000n;

/** The services and what a test needs beside them. */
export class TestHouse {
  readonly database: Database;
  readonly pricing: PricingBook;
  readonly callers: Callers;
  readonly account: ReturnType<typeof accountService>;
  readonly admin: ReturnType<typeof adminService>;
  readonly operator = fakeCall({ bearer: operatorToken });
  readonly #maker: LeaseMaker;

  private constructor(database: Database, keyFolder: KeyFolder, clock: DatabaseClock, digestKey: Buffer) {
    const pricing = new PricingBook(database);
    const callers = new Callers(database);
    const { serverKeys } = keyFolder;
    const shared = { database, serverKeys, digestKey };
    const pricingView = new PricingView([box], []);
    this.database = database;
    this.pricing = pricing;
    this.callers = callers;
    this.account = accountService({ ...shared, callers });
    this.admin = adminService({
      ...shared,
      operator: new Operator(operatorToken),
      pricing,
      pricingView,
      variants: [box],
    });
    const seals = new LeaseSeals(keyFolder);
    this.#maker = new LeaseMaker({
      database,
      clock,
      pricing,
      seals,
      variants: new LeaseVariants([box]),
      contentWindowSeconds: 86_400,
    });
  }

  /** Call it at the top level of a test file. */
  static async open(): Promise<TestHouse> {
    const database = await testDatabase({ poolSize: 40 });
    const keysDir = await mkdtemp(join(tmpdir(), "leasehold-house-"));
    afterAll(() => rm(keysDir, { recursive: true, force: true }));
    const keyFolder = await openKeyFolder(database, { keysDir, epochSeconds: 3600 });
    const digestKey = (await keyFolder.serverKeys.latest()).key;
    const house = new TestHouse(database, keyFolder, await DatabaseClock.read(database), digestKey);
    await house.pricing.initialize({
      rateMicrosPerGibDay: 1000n,
      minChargeMicros: leasePriceMicros,
      minDurationSeconds: 60n,
      maxDurationSeconds: 86_400n,
      firingMicros: 1n,
    });
    return house;
  }

  /** Makes an account with some money. */
  async openAccount(balanceMicros = 1_000_000n): Promise<HouseAccount> {
    const { account, apiKey = "" } = await this.admin.createAccount(
      create(CreateAccountRequestSchema, { name: "test" }),
      this.operator,
    );
    const accountId = account?.accountId ?? "";
    if (balanceMicros > 0n) {
      await this.credit(accountId, balanceMicros);
    }
    return { accountId, ownerId: ownerIdOf(accountId), apiKey, call: fakeCall({ bearer: apiKey }) };
  }

  async credit(accountId: string, amountMicros: bigint, requestId = "") {
    const request = create(CreditAccountRequestSchema, { accountId, amountMicros, requestId });
    return await this.admin.creditAccount(request, this.operator);
  }

  /** Makes a key by a call, and gives it with a call by the new key. */
  async makeKey(by: Call, request: MessageInitShape<typeof CreateApiKeyRequestSchema> = {}) {
    const answer = await this.account.createApiKey(create(CreateApiKeyRequestSchema, request), by);
    const { key = create(ApiKeySchema), apiKey } = create(CreateApiKeyResponseSchema, answer);
    return { key, keyId: key.keyId, apiKey, call: fakeCall({ bearer: apiKey }) };
  }

  /** Pays for a lease. */
  async lease(by: Call): Promise<LeaseUuid> {
    const caller = await this.callers.of(by);
    const made = await this.#maker.make({
      caller,
      variant: box,
      specification: { details: Buffer.of() },
      asked: create(CreateLeaseRequestSchema),
      request: {
        sizeBytes: 1024n,
        durationSeconds: 3600n,
        readAccess: Lease_ReadAccess.OWNER,
        deleteOnAccess: false,
        maxPriceMicros: undefined,
        labels: {},
      },
      repeatable: undefined,
    });
    if (made === "seen") {
      throw new Error("a lease without a request_id was seen");
    }
    return made.lease.lease_id;
  }

  /** Deletes a lease, which refunds it. */
  async refund(by: Call, leaseId: LeaseUuid): Promise<void> {
    const caller = await this.callers.of(by);
    await this.database.run(endLeasesOfCaller, [caller.ownerId, [leaseId], caller.keyId, scopeBits.write]);
  }
}

function ownerIdOf(accountId: string): AccountUuid {
  const ownerId = parseId("acc", accountId);
  if (ownerId === undefined) {
    throw new Error(`not an account's id: ${accountId}`);
  }
  return ownerId;
}
