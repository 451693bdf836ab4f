/**
 * What the product is compared with: the same doors, pipeline, interceptors, messages and check of the credential, over
 * handlers that answer at once with what they were given to answer. The database is asked for a credential's owner the
 * first time it is seen, as in the product, and for nothing else.
 */
import { type DescService, fromBinary } from "@bufbuild/protobuf";
import { pino } from "pino";
import { Registry } from "prom-client";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { Callers } from "../src/account/caller.ts";
import { TokenPlaces } from "../src/account/token-places.ts";
import { loadConfig } from "../src/config/load-config.ts";
import { Database } from "../src/database/database.ts";
import { TokenHolders } from "../src/handoff/token-holders.ts";
import { LeaseholdServer } from "../src/server/leasehold-server.ts";
import { type MountedService, mountService, type ServiceImplementation } from "../src/server/service-implementation.ts";
import { type Commands, serveCommands } from "./harness/bench-process.ts";

/** Answers that the product gave to the same requests, in their wire form. */
export interface EchoAnswers {
  readonly createLease: Uint8Array;
  readonly getLease: Uint8Array;
  readonly claimHandoff: readonly Uint8Array[];
  readonly dropMessage: Uint8Array;
}

const { createLease, getLease } = LeaseService.method;
const { claimHandoff } = HandoffService.method;
const { dropMessage } = MailboxService.method;

const config = loadConfig(process.env);
const database = await Database.connect({ url: config.databaseUrl ?? "", poolSize: 1 });
const callers = new Callers(database);
const holders = new TokenHolders(database);
const dropTokens = new TokenPlaces(database, "drop");
let created = fromBinary(createLease.output, new Uint8Array());
let got = fromBinary(getLease.output, new Uint8Array());
let claimed = [fromBinary(claimHandoff.output, new Uint8Array())];
let dropped = fromBinary(dropMessage.output, new Uint8Array());

const services: readonly MountedService[] = [
  mountEcho(LeaseService, {
    async createLease(_, call) {
      await callers.of(call);
      return { lease: created.lease };
    },
    async getLease(_, call) {
      await callers.of(call);
      return { lease: got.lease };
    },
  }),
  mountEcho(HandoffService, {
    async *claimHandoff(request) {
      await holders.find(request.claimToken);
      for (const { part } of claimed) {
        yield { part };
      }
    },
  }),
  mountEcho(MailboxService, {
    async dropMessage(request) {
      await dropTokens.find(request.dropToken);
      return { messageId: dropped.messageId, sequence: dropped.sequence };
    },
  }),
];

const logger = pino({ level: config.logLevel }, pino.destination(2));
const server = await LeaseholdServer.start({
  ...config,
  services,
  routes: [],
  windowBytes: 8 * 1024 * 1024,
  logger,
  registry: new Registry(),
  readiness: async () => ({ ready: true, detail: {} }),
});
server.setServing(true);

const commands = {
  ports: (_: null) => ({ grpcPort: server.addresses.grpc.port, httpPort: server.addresses.http.port }),

  answerWith(answers: EchoAnswers): void {
    created = fromBinary(createLease.output, answers.createLease);
    got = fromBinary(getLease.output, answers.getLease);
    claimed = answers.claimHandoff.map((bytes) => fromBinary(claimHandoff.output, bytes));
    dropped = fromBinary(dropMessage.output, answers.dropMessage);
  },
} satisfies Commands;

export type EchoCommands = typeof commands;

serveCommands(commands, async () => {
  await server.close();
  await database.close();
});

/** RPCs that are compared with nothing are not there. */
function mountEcho<Service extends DescService>(
  service: Service,
  echoes: Partial<ServiceImplementation<Service>>,
): MountedService {
  const others = service.methods.map(({ localName, name }) => [
    localName,
    () => {
      throw new Error(`${name} has no echo`);
    },
  ]);
  return mountService(service, { ...Object.fromEntries(others), ...echoes } as ServiceImplementation<Service>);
}
