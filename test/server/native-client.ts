/** A client of the native door: grpc-js by descriptors. */
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodClientStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type CallOptions,
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientWritableStream,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";

/** Calls RPCs over one connection of its own. */
export class NativeClient implements Disposable {
  readonly raw: Client;

  constructor(
    address: string,
    channel: ChannelCredentials = credentials.createInsecure(),
    options: ChannelOptions = {},
  ) {
    this.raw = new Client(address, channel, { "grpc.use_local_subchannel_pool": 1, ...options });
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    headers: Record<string, string> = {},
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      this.raw.makeUnaryRequest(
        pathOf(method),
        encoder(method.input),
        decoder(method.output),
        create(method.input, request),
        metadataOf(headers),
        options,
        (error, answer) => (answer === undefined ? reject(error ?? new Error("no answer")) : resolve(answer)),
      );
    });
  }

  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): ClientReadableStream<MessageShape<O>> {
    return this.raw.makeServerStreamRequest(
      pathOf(method),
      encoder(method.input),
      decoder(method.output),
      create(method.input, request),
      new Metadata(),
      options,
    );
  }

  /** The stream to write requests to, and the answer. */
  clientStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    options: CallOptions = {},
  ): { stream: ClientWritableStream<MessageShape<I>>; answer: Promise<MessageShape<O>> } {
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
    const stream = this.raw.makeClientStreamRequest(
      pathOf(method),
      encoder(method.input),
      decoder(method.output),
      new Metadata(),
      options,
      (error: ServiceError | null, answer?: MessageShape<O>) =>
        answer === undefined ? reject(error ?? new Error("no answer")) : resolve(answer),
    );
    return { stream, answer: promise };
  }

  bidiStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
  ): ClientDuplexStream<MessageShape<I>, MessageShape<O>> {
    return this.raw.makeBidiStreamRequest(pathOf(method), encoder(method.input), decoder(method.output));
  }

  [Symbol.dispose](): void {
    this.raw.close();
  }
}

export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function metadataOf(headers: Record<string, string>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) {
    metadata.set(name, value);
  }
  return metadata;
}

function encoder<D extends DescMessage>(descriptor: D): (message: MessageShape<D>) => Buffer {
  return (message) => Buffer.from(toBinary(descriptor, message));
}

function decoder<D extends DescMessage>(descriptor: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(descriptor, bytes);
}
