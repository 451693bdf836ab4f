/** grpc.health.v1, the same for both doors. */
import { EventEmitter, once } from "node:events";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type Health,
  type HealthCheckRequest,
  type HealthCheckResponseSchema,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "#gen/grpc/health/v1/health_pb.js";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { Call } from "./call.ts";
import { draining } from "./call-failures.ts";
import type { ServiceImplementation } from "./service-implementation.ts";

type CheckResponse = MessageInitShape<typeof HealthCheckResponseSchema>;

/** Says whether the server serves: all of its services, or none. */
export class HealthService implements ServiceImplementation<typeof Health> {
  readonly #services: ReadonlySet<string>;
  readonly #changes = new EventEmitter<{ change: [] }>().setMaxListeners(0);
  #isServing = false;
  #isOver = false;

  /** `services` are the full names that may be asked about. The empty name asks about the server. */
  constructor(services: readonly string[]) {
    this.#services = new Set(["", ...services]);
  }

  setServing(isServing: boolean): void {
    this.#isServing = isServing;
    this.#changes.emit("change");
  }

  /** Tells watchers NOT_SERVING, and ends their streams so that they do not hold up a drain. */
  end(): void {
    this.#isOver = true;
    this.setServing(false);
  }

  async check(request: HealthCheckRequest): Promise<CheckResponse> {
    if (!this.#services.has(request.service)) {
      throw new LeaseholdError("NOT_FOUND", "There is no such service.");
    }
    return { status: this.#status() };
  }

  async list(): Promise<{ statuses: Record<string, CheckResponse> }> {
    return { statuses: Object.fromEntries([...this.#services].map((name) => [name, { status: this.#status() }])) };
  }

  /** An unknown service is no error here: its status is SERVICE_UNKNOWN. */
  async *watch(request: HealthCheckRequest, call: Call): AsyncGenerator<CheckResponse> {
    let told: ServingStatus | undefined;
    for (;;) {
      const status = this.#services.has(request.service) ? this.#status() : ServingStatus.SERVICE_UNKNOWN;
      if (status !== told) {
        told = status;
        yield { status };
      } else if (this.#isOver) {
        throw draining();
      } else {
        await once(this.#changes, "change", { signal: call.signal });
      }
    }
  }

  #status(): ServingStatus {
    return this.#isServing ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  }
}
