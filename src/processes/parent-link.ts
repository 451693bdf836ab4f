/** Owns what a process and `leasehold dev`, if that has started it, say to each other. */

/** From a process to the one that started it. */
export type FromChild =
  /** It does its work now. A server says where. */
  | { readonly kind: "ready"; readonly addresses?: ServingAddresses }
  /** It ends, and why, in one line: the parent shows it. */
  | { readonly kind: "failed"; readonly message: string };

/** Where a server listens, as addresses to call. */
export interface ServingAddresses {
  readonly httpUrl: string;
  readonly grpcUrl: string;
  /** Where AdminService is: on the HTTP door, or at the operator's port. */
  readonly adminUrl: string;
  readonly ports: { readonly http: number; readonly grpc: number; readonly operator: number | undefined };
}

/** Whether a parent runs this process as a part of itself, and stops it. It stays so when the parent dies. */
export const hasParent = process.send !== undefined;

/** Tells the parent, if there is one. Resolves once it is sent. */
export async function tellParent(message: FromChild): Promise<void> {
  if (!process.connected) {
    return;
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  // A parent that has just ended is found out by its silence, so an error is as good as an answer.
  process.send?.(message, undefined, undefined, () => resolve());
  await promise;
}

/** Lets go of the parent, so that this process can end. */
export function leaveParent(): void {
  if (process.connected) {
    process.disconnect?.();
  }
}
