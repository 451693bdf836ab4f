/** Owns what the supervisor and the process that started it say to each other. */

/** From the parent. */
export type ToSupervisor =
  | { readonly kind: "stop" }
  /** The processes to outlive, should the parent end without a word. */
  | { readonly kind: "outlive"; readonly pids: readonly number[] };

/** From the supervisor. */
export type FromSupervisor =
  | { readonly kind: "log"; readonly message: string }
  /** Postgres takes connections; comes again after every restart. */
  | { readonly kind: "ready"; readonly pid: number; readonly url: string }
  /** The supervisor ends, and why. */
  | { readonly kind: "failed"; readonly message: string };
