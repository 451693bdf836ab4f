/** The shape of an RPC's implementation, the same for both doors, and how a service is handed to them. */
import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  Message,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { Call } from "./call.ts";

/**
 * One function for each RPC of a service.
 *
 * A stream that is returned is asked for its next message only when the transport has taken the one before: once it is
 * resumed after its last message, that message was handed over. Requests are valid by the schema's rules.
 */
export type ServiceImplementation<Service extends DescService> = {
  [Name in keyof Service["method"]]: MethodImplementation<Service["method"][Name]>;
};

/** The function that serves one RPC. */
export type MethodImplementation<Method extends DescMethod> =
  Method extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, call: Call) => Promise<MessageInitShape<O>>
    : Method extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, call: Call) => AsyncIterable<MessageInitShape<O>>
      : Method extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageShape<I>>, call: Call) => Promise<MessageInitShape<O>>
        : Method extends DescMethodBiDiStreaming<infer I, infer O>
          ? (requests: AsyncIterable<MessageShape<I>>, call: Call) => AsyncIterable<MessageInitShape<O>>
          : never;

/** What a handler answers with, before it is made a message. */
export type MessageInit = MessageInitShape<DescMessage>;

/** What a mounted service is besides its implementation. */
export interface MountOptions {
  /** Whether it is served on the operator's listener alone, if there is one. */
  readonly operatorOnly?: boolean;
  /** Whether it answers while the server drains, as health must. */
  readonly servedWhileDraining?: boolean;
  /**
   * Refuses a call whose credential may not make it. Asked only before a request is refused by the schema's rules, so
   * that the credential comes first in errors and is judged once in calls that succeed: by their handlers.
   */
  readonly authenticate?: ((call: Call) => Promise<void>) | undefined;
}

/** A service, ready for the doors. */
export interface MountedService {
  readonly descriptor: DescService;
  readonly methods: readonly RpcMethod[];
  readonly operatorOnly: boolean;
}

/** One RPC, ready for the doors. The types of its messages are known to its descriptor only. */
export type RpcMethod = {
  /** `leasehold.v1.LeaseService/GetLease`: its name in logs and metrics, and its path after the slash. */
  readonly name: string;
  readonly servedWhileDraining: boolean;
  readonly authenticate?: MountOptions["authenticate"];
} & (
  | {
      readonly kind: "unary";
      readonly descriptor: DescMethodUnary;
      run(request: Message, call: Call): Promise<MessageInit>;
    }
  | {
      readonly kind: "server_streaming";
      readonly descriptor: DescMethodServerStreaming;
      run(request: Message, call: Call): AsyncIterable<MessageInit>;
    }
  | {
      readonly kind: "client_streaming";
      readonly descriptor: DescMethodClientStreaming;
      run(requests: AsyncIterable<Message>, call: Call): Promise<MessageInit>;
    }
  | {
      readonly kind: "bidi_streaming";
      readonly descriptor: DescMethodBiDiStreaming;
      run(requests: AsyncIterable<Message>, call: Call): AsyncIterable<MessageInit>;
    }
);

/** An RPC of one kind. */
export type RpcMethodOf<Kind extends RpcMethod["kind"]> = Extract<RpcMethod, { kind: Kind }>;

/** Pairs a service with its implementation. */
export function mountService<Service extends DescService>(
  descriptor: Service,
  implementation: ServiceImplementation<Service>,
  options: MountOptions = {},
): MountedService {
  return {
    descriptor,
    methods: descriptor.methods.map((method) => toRpcMethod(method, implementation, options)),
    operatorOnly: options.operatorOnly ?? false,
  };
}

/** mountService's signature has matched each function to its descriptor: from here on both are of any message. */
function toRpcMethod(descriptor: DescMethod, implementation: object, options: MountOptions): RpcMethod {
  const run: unknown = Reflect.get(implementation, descriptor.localName);
  if (typeof run !== "function") {
    throw new TypeError(`${descriptor.toString()} has no implementation`);
  }
  return {
    name: `${descriptor.parent.typeName}/${descriptor.name}`,
    servedWhileDraining: options.servedWhileDraining ?? false,
    authenticate: options.authenticate,
    kind: descriptor.methodKind,
    descriptor,
    run: run.bind(implementation),
  } as RpcMethod;
}
