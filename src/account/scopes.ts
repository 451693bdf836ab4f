/** What a key may do, as the bits that `api_key.scopes` holds. */
import { ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";

/** A scope by the name that comments and errors use. */
export type ScopeName = "read" | "write" | "create" | "account";

export const scopeBits: Readonly<Record<ScopeName, number>> = { read: 1, write: 2, create: 4, account: 8 };

/** Every scope: what the first key of an account has. */
export const allScopes = 15;

const protoScopes: readonly (readonly [ApiKey_Scope, number])[] = [
  [ApiKey_Scope.READ, scopeBits.read],
  [ApiKey_Scope.WRITE, scopeBits.write],
  [ApiKey_Scope.CREATE, scopeBits.create],
  [ApiKey_Scope.ACCOUNT, scopeBits.account],
];

export function scopesToBits(scopes: readonly ApiKey_Scope[]): number {
  return protoScopes.reduce((bits, [scope, bit]) => (scopes.includes(scope) ? bits | bit : bits), 0);
}

export function scopesFromBits(bits: number): ApiKey_Scope[] {
  return protoScopes.filter(([, bit]) => (bits & bit) !== 0).map(([scope]) => scope);
}

/** The first scope of a set that is not empty. */
export function firstScope(bits: number): ScopeName {
  const names: readonly ScopeName[] = ["read", "write", "create", "account"];
  return names.find((name) => (bits & scopeBits[name]) !== 0) ?? "account";
}
