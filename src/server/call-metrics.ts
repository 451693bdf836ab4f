/** Counts calls and times them, by RPC or route, code and door. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Door } from "./active-call.ts";

/** The metrics of every call. */
export class CallMetrics {
  readonly #calls: Counter<"method" | "code" | "door">;
  readonly #durations: Histogram<"method" | "door">;
  readonly #inFlight: Gauge<"door">;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#calls = new Counter({
      name: "leasehold_calls_total",
      help: "Calls that were answered, by RPC or route, code and door.",
      labelNames: ["method", "code", "door"],
      registers,
    });
    this.#durations = new Histogram({
      name: "leasehold_call_duration_seconds",
      help: "From a call's headers to its answer's end, by RPC or route and door.",
      labelNames: ["method", "door"],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    });
    this.#inFlight = new Gauge({
      name: "leasehold_calls_in_flight",
      help: "Calls that are not answered yet, by door.",
      labelNames: ["door"],
      registers,
    });
  }

  began(door: Door): void {
    this.#inFlight.inc({ door });
  }

  answered(method: string, code: string, door: Door, durationMs: number): void {
    this.#inFlight.dec({ door });
    this.#calls.inc({ method, code, door });
    this.#durations.observe({ method, door }, durationMs / 1000);
  }
}
