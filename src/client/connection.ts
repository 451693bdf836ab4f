/** Owns the way to a server: its address, the credential that calls carry, and a client for each service. */
import type { ConnectionOptions as TlsOptions } from "node:tls";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AccountService } from "#gen/leasehold/v1/account_pb.js";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { CheckpointService } from "#gen/leasehold/v1/checkpoint_pb.js";
import { CronService } from "#gen/leasehold/v1/cron_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { ScratchpadService } from "#gen/leasehold/v1/scratchpad_pb.js";
import { fromRpc } from "./call-error.ts";

/** Where a server is, and how to be let in. */
export interface ConnectionOptions {
  /** The address of its HTTP door. */
  readonly url: string;
  /** An API key, or the admin token. Without one only calls that need none succeed. */
  readonly bearer?: string | undefined;
  /** How to know a server whose certificate the system does not: options of `node:tls`. */
  readonly tls?: Pick<TlsOptions, "ca" | "allowPartialTrustChain" | "checkServerIdentity">;
}

/** Clients of one server. Their calls fail with a CallError. */
export interface Connection {
  /** Without a slash at the end. */
  readonly url: string;
  readonly bearer: string | undefined;
  readonly leases: Client<typeof LeaseService>;
  readonly mailboxes: Client<typeof MailboxService>;
  readonly checkpoints: Client<typeof CheckpointService>;
  readonly scratchpads: Client<typeof ScratchpadService>;
  readonly crons: Client<typeof CronService>;
  readonly handoffs: Client<typeof HandoffService>;
  readonly accounts: Client<typeof AccountService>;
  readonly admin: Client<typeof AdminService>;
}

/** Longer than the server's own deadline of a minute, so that the server is the one to explain. */
const callTimeoutMs = 90_000;

/** Describes the way; nothing is sent before the first call. */
export function connect(options: ConnectionOptions): Connection {
  const { bearer } = options;
  const url = options.url.replace(/\/+$/, "");
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: "1.1",
    interceptors: bearer === undefined ? [] : [authorize(bearer)],
    defaultTimeoutMs: callTimeoutMs,
    ...(options.tls === undefined ? {} : { nodeOptions: options.tls }),
  });
  const explained = explain(transport, url);
  const client = <Service extends DescService>(service: Service): Client<Service> => createClient(service, explained);
  return {
    url,
    bearer,
    leases: client(LeaseService),
    mailboxes: client(MailboxService),
    checkpoints: client(CheckpointService),
    scratchpads: client(ScratchpadService),
    crons: client(CronService),
    handoffs: client(HandoffService),
    accounts: client(AccountService),
    admin: client(AdminService),
  };
}

function authorize(bearer: string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${bearer}`);
    return next(request);
  };
}

/** Around the transport, as Connect wraps whatever an interceptor throws in an error of its own. */
function explain(transport: Transport, url: string): Transport {
  return {
    async unary(...call) {
      try {
        return await transport.unary(...call);
      } catch (error) {
        throw fromRpc(url, error);
      }
    },
    async stream(...call) {
      try {
        const response = await transport.stream(...call);
        return { ...response, message: explainMessages(response.message, url) };
      } catch (error) {
        throw fromRpc(url, error);
      }
    },
  };
}

async function* explainMessages<Message>(messages: AsyncIterable<Message>, url: string): AsyncGenerator<Message> {
  try {
    yield* messages;
  } catch (error) {
    throw fromRpc(url, error);
  }
}
