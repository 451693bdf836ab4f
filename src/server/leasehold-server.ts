/** The server: both doors, and the operator's listener if that has a port of its own. */
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import type { DoorOptions, ListeningAddress } from "./door-options.ts";
import { HealthService } from "./health-service.ts";
import { HttpDoor } from "./http-door.ts";
import { NativeDoor } from "./native-door.ts";
import { healthPage, metricsPage, type Page, type Readiness, readinessPage } from "./pages.ts";
import { Pipeline, type PipelineOptions } from "./pipeline.ts";
import { mountReflection } from "./reflection-service.ts";
import type { Route } from "./router.ts";
import { type MountedService, mountService } from "./service-implementation.ts";

/** What the server is made of. A field that the configuration has too is called the same. */
export interface ServerOptions extends DoorOptions, PipelineOptions {
  /** 0 takes a free one; so for the others. */
  readonly httpPort: number;
  readonly grpcPort: number;
  /** If set, operatorOnly services and /metrics are on this port and on no other. */
  readonly operatorPort?: number | undefined;
  /** `["*"]` for every origin. */
  readonly corsOrigins: readonly string[];
  readonly services: readonly MountedService[];
  readonly routes: readonly Route[];
  /** Asked for every `/readyz`. A server that is not set to serve is not ready, whatever this says. */
  readiness(): Promise<Readiness>;
}

/** Where the server listens. */
export interface ServerAddresses {
  readonly http: ListeningAddress;
  readonly grpc: ListeningAddress;
  readonly operator: ListeningAddress | undefined;
}

/** A server that listens. Its health is NOT_SERVING until setServing. */
export class LeaseholdServer {
  readonly #options: ServerOptions;
  readonly #pipeline: Pipeline;
  readonly #health: HealthService;
  readonly #http: HttpDoor;
  readonly #native: NativeDoor;
  readonly #operator: HttpDoor | undefined;
  #addresses: ServerAddresses | undefined;
  #isServing = false;

  private constructor(options: ServerOptions) {
    this.#options = options;
    this.#pipeline = new Pipeline(options);
    this.#health = new HealthService(options.services.map(({ descriptor }) => descriptor.typeName));
    for (const service of options.services) {
      this.#pipeline.prepare(service);
    }
    const { operatorPort } = options;
    const isOpenToAll = (service: MountedService) => operatorPort === undefined || !service.operatorOnly;
    const services = this.#withStandard(options.services.filter(isOpenToAll));
    const basicPages = [healthPage(), readinessPage(() => this.#readiness(), options.logger)];
    const allPages = [...basicPages, metricsPage(options.registry)];
    this.#native = new NativeDoor({ ...options, port: options.grpcPort, services }, this.#pipeline);
    this.#http = this.#httpDoor(
      options.httpPort,
      services,
      options.routes,
      operatorPort === undefined ? allPages : basicPages,
    );
    this.#operator =
      operatorPort === undefined
        ? undefined
        : this.#httpDoor(
            operatorPort,
            this.#withStandard(options.services.filter(({ operatorOnly }) => operatorOnly)),
            [],
            allPages,
          );
  }

  /**
   * Opens the doors, with health, reflection and the pages for the operator added.
   *
   * @throws if an address is taken, or a rule of the schema does not compile.
   */
  static async start(options: ServerOptions): Promise<LeaseholdServer> {
    const server = new LeaseholdServer(options);
    try {
      server.#addresses = {
        http: await server.#http.open(),
        grpc: await server.#native.open(),
        operator: await server.#operator?.open(),
      };
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  get addresses(): ServerAddresses {
    if (this.#addresses === undefined) {
      throw new Error("The server does not listen");
    }
    return this.#addresses;
  }

  /** Sets health and readiness. */
  setServing(isServing: boolean): void {
    this.#isServing = isServing;
    this.#health.setServing(isServing);
  }

  /**
   * Stops for good without breaking what is under way: not ready and NOT_SERVING at once, new calls get DRAINING, those
   * under way have the grace to end and are then cut with DRAINING. Returns when every connection is closed and every
   * handler has ended or had its grace.
   */
  async drain(graceMs: number): Promise<void> {
    this.#isServing = false;
    this.#health.end();
    await this.#pipeline.drain(graceMs);
    await this.#closeDoors(closeGraceMs);
  }

  /** Stops at once: calls under way are cut with DRAINING. */
  async close(): Promise<void> {
    await this.drain(0);
  }

  async #closeDoors(graceMs: number): Promise<void> {
    await Promise.all([this.#http.close(graceMs), this.#native.close(graceMs), this.#operator?.close(graceMs)]);
  }

  #withStandard(services: readonly MountedService[]): readonly MountedService[] {
    const health = mountService(Health, this.#health, { servedWhileDraining: true });
    return [...services, health, ...mountReflection([...services, health].map(({ descriptor }) => descriptor))];
  }

  #httpDoor(
    port: number,
    services: readonly MountedService[],
    routes: readonly Route[],
    pages: readonly Page[],
  ): HttpDoor {
    return new HttpDoor({ ...this.#options, port, services, routes, pages }, this.#pipeline);
  }

  async #readiness(): Promise<Readiness> {
    return this.#isServing ? await this.#options.readiness() : { ready: false, detail: {} };
  }
}

/** How long answers that are on their way have to arrive when the server stops, in milliseconds. */
const closeGraceMs = 1000;
