/** An account of a test with all that it does to leases, through every door. */
import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { AccountService } from "#gen/leasehold/v1/account_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { type CreateLeaseRequestSchema, type Lease, LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import type { StorageDetails } from "#gen/leasehold/v1/storage_pb.js";
import { type AccountUuid, type LeaseUuid, parseId } from "../../src/ids/ids.ts";
import type { TestAccount, TestLeasehold } from "./test-leasehold.ts";
import { query } from "./test-query.ts";

/** The two doors that speak RPC. */
export const doors = ["connect", "native"] as const;
export type RpcDoor = (typeof doors)[number];

/** The body of an error on a plain route. */
export interface HttpRefusal {
  readonly status: number;
  readonly reason: string;
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What a lease is asked for with. */
export type LeaseInit = MessageInitShape<typeof CreateLeaseRequestSchema>;

/** The doors of a server, in this process or another. */
export interface Reachable {
  readonly httpUrl: string;
  client<Service extends DescService>(service: Service, bearer?: string): Client<Service>;
  nativeClient<Service extends DescService>(service: Service, bearer?: string): Client<Service>;
}

/** A caller of one server. */
export class Tenant {
  /** Where it was made, and where a test looks behind the RPCs. */
  readonly leasehold: TestLeasehold;
  readonly account: TestAccount;
  readonly #server: Reachable;
  readonly leases: Client<typeof LeaseService>;
  readonly nativeLeases: Client<typeof LeaseService>;
  readonly handoffs: Client<typeof HandoffService>;
  readonly accounts: Client<typeof AccountService>;

  constructor(leasehold: TestLeasehold, account: TestAccount, server: Reachable = leasehold) {
    this.leasehold = leasehold;
    this.account = account;
    this.#server = server;
    this.leases = server.client(LeaseService, account.apiKey);
    this.nativeLeases = server.nativeClient(LeaseService, account.apiKey);
    this.handoffs = server.client(HandoffService, account.apiKey);
    this.accounts = server.client(AccountService, account.apiKey);
  }

  static async open(leasehold: TestLeasehold, balanceMicros?: bigint): Promise<Tenant> {
    return new Tenant(leasehold, await leasehold.account(balanceMicros));
  }

  /** The same account at another server. */
  at(server: Reachable): Tenant {
    return new Tenant(this.leasehold, this.account, server);
  }

  /** The same account by another of its keys. */
  by(apiKey: string): Tenant {
    return new Tenant(this.leasehold, { ...this.account, apiKey }, this.#server);
  }

  get ownerId(): AccountUuid {
    const ownerId = parseId("acc", this.account.accountId);
    if (ownerId === undefined) {
      throw new Error(`not an account's id: ${this.account.accountId}`);
    }
    return ownerId;
  }

  leasesAt(door: RpcDoor): Client<typeof LeaseService> {
    return door === "connect" ? this.leases : this.nativeLeases;
  }

  /** Makes a lease: 1 MiB for an hour, unless said otherwise. */
  async create(request: LeaseInit = {}): Promise<Lease> {
    const { lease } = await this.leases.createLease(askFor(request));
    return required(lease);
  }

  /** Makes a lease that is active with a body. */
  async store(body: Uint8Array, request: LeaseInit = {}): Promise<Lease> {
    const { leaseId } = await this.create(request);
    const response = await this.put(leaseId, body);
    if (!response.ok) {
      throw new Error(`the upload was answered with ${response.status}: ${await response.text()}`);
    }
    return await this.show(leaseId);
  }

  async show(leaseId: string): Promise<Lease> {
    return required((await this.leases.getLease({ leaseId })).lease);
  }

  async storedBytes(leaseId: string): Promise<bigint> {
    const { details } = await this.show(leaseId);
    return details.case === "storage" ? details.value.storedBytes : -1n;
  }

  contentUrl(leaseId: string): string {
    return `${this.#server.httpUrl}/api/leases/${leaseId}/content`;
  }

  get headers(): { readonly authorization: string } {
    return { authorization: `Bearer ${this.account.apiKey}` };
  }

  async put(leaseId: string, body: Uint8Array, headers: Record<string, string> = {}): Promise<Response> {
    const options = { method: "PUT", body: Buffer.from(body), headers: { ...this.headers, ...headers } };
    return await fetch(this.contentUrl(leaseId), options);
  }

  async get(leaseId: string, headers: Record<string, string> = {}): Promise<Response> {
    return await fetch(this.contentUrl(leaseId), { headers: { ...this.headers, ...headers } });
  }

  /** The body, or the range of it, by DownloadContent. */
  async download(leaseId: string, door: RpcDoor, range: { offset?: bigint; limit?: bigint } = {}): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    for await (const { data } of this.leasesAt(door).downloadContent({ leaseId, ...range })) {
      pieces.push(data);
    }
    return Buffer.concat(pieces);
  }

  async balanceMicros(): Promise<bigint> {
    return (await this.accounts.getAccount({})).account?.balanceMicros ?? -1n;
  }

  /** Moves the times of a lease into the past by so many seconds, so that it is as old as if that time had passed. */
  async age(leaseId: string, seconds: number): Promise<void> {
    await ageLease(this.leasehold.database, leaseId, seconds);
  }

  /** How many leases the account has, ended ones included. */
  async leaseCount(): Promise<bigint> {
    const text = "select count(*) as leases from lease where owner_id = $1";
    const [row] = await query<{ leases: bigint }>(this.leasehold.database, text, [this.ownerId]);
    return row?.leases ?? -1n;
  }
}

/** What Tenant.create asks for. */
export const roomForAnHour = {
  sizeBytes: 1_048_576n,
  duration: { seconds: 3600n },
  variant: { case: "storage", value: {} },
} as const satisfies LeaseInit;

/** What a test asks for, on top of roomForAnHour. */
export function askFor(request: LeaseInit): LeaseInit {
  return { ...roomForAnHour, ...request } as LeaseInit;
}

/** Moves the times of a lease into the past by so many seconds. */
async function ageLease(on: Parameters<typeof query>[0], leaseId: string, seconds: number): Promise<void> {
  await query(
    on,
    `update lease
    set create_time = create_time - make_interval(secs => $2), active_time = active_time - make_interval(secs => $2),
      expire_time = expire_time - make_interval(secs => $2), due_time = due_time - make_interval(secs => $2),
      end_time = end_time - make_interval(secs => $2), destroy_time = destroy_time - make_interval(secs => $2),
      unrecoverable_time = unrecoverable_time - make_interval(secs => $2)
    where lease_id = $1`,
    [leaseUuid(leaseId), seconds],
  );
}

/** The stored form of a lease's id. */
export function leaseUuid(leaseId: string): LeaseUuid {
  const uuid = parseId("lse", leaseId);
  if (uuid === undefined) {
    throw new Error(`not a lease's id: ${leaseId}`);
  }
  return uuid;
}

/** What a plain route refused a request for. */
export async function refusalOf(response: Response): Promise<HttpRefusal> {
  const body: unknown = await response.json();
  return body as HttpRefusal;
}

/** What only a Storage lease has. */
export function storageOf(lease: Lease | undefined): StorageDetails {
  if (lease?.details.case !== "storage") {
    throw new Error("the lease is not of Storage");
  }
  return lease.details.value;
}

/** A value that is there. */
export function required<Value>(value: Value | undefined): Value {
  if (value === undefined) {
    throw new Error("the answer lacks a part that is always there");
  }
  return value;
}
