/** The two calls that take messages: a stream that goes on, and one answer. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  MessageDeliverySchema,
  PullMessagesRequest,
  ReceiveMessagesRequest,
  ReceiveMessagesResponseSchema,
} from "#gen/leasehold/v1/mailbox_pb.js";
import type { Caller } from "../account/caller.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { microsOf } from "../proto-values/proto-time.ts";
import type { Call } from "../server/call.ts";
import type { WaitedLease } from "../wakeups/wakeups.ts";
import { openDeliveries } from "./delivery-opening.ts";
import type { MailboxServiceOptions } from "./mailbox-options.ts";
import type { ReceiveDesk } from "./receive-desk.ts";
import type { Received } from "./receive-lane.ts";
import type { FoundMailbox } from "./receive-take.ts";
import type { ReceiveWindows } from "./receive-windows.ts";

/** What the calls need. */
export interface ReceivingOptions extends Pick<MailboxServiceOptions, "callers" | "seals" | "watch"> {
  readonly desk: ReceiveDesk;
  readonly windows: ReceiveWindows;
}

const defaultHoldMicros = 30_000_000n;
const defaultWindow = 100;

/** Serves ReceiveMessages: each answer is taken when there is room in the window and something to be sent. */
export async function* streamMessages(
  options: ReceivingOptions,
  request: ReceiveMessagesRequest,
  call: Call,
): AsyncGenerator<MessageInitShape<typeof ReceiveMessagesResponseSchema>> {
  const { desk, windows } = options;
  call.endWithDrain();
  const caller = await options.callers.of(call);
  const mailbox = { ownerId: caller.ownerId, leaseId: leaseUuidOf(request.leaseId) };
  const window = windows.open(mailbox, request.window || defaultWindow);
  const watched = new WatchedCall(options, caller, call);
  const receiver = {
    caller,
    holdMicros: microsOf(request.visibilityTimeout) ?? defaultHoldMicros,
    wanted: () => window.room,
    signal: call.signal,
    onWait: (found: FoundMailbox) => watched.begin(found),
  };
  try {
    for (;;) {
      await window.whenRoom(call.signal);
      const received = await desk.receive(mailbox, receiver);
      watched.begin(received.mailbox);
      window.add(received);
      yield { deliveries: await openUnlessGone(options, mailbox, received, call) };
    }
  } finally {
    window.close();
    watched.end();
  }
}

/** Serves PullMessages. */
export async function pullMessages(
  options: ReceivingOptions,
  request: PullMessagesRequest,
  call: Call,
): Promise<{ deliveries: MessageInitShape<typeof MessageDeliverySchema>[] }> {
  const caller = await options.callers.of(call);
  const mailbox = { ownerId: caller.ownerId, leaseId: leaseUuidOf(request.leaseId) };
  const watched = new WatchedCall(options, caller, call);
  try {
    const received = await options.desk.receive(mailbox, {
      caller,
      holdMicros: microsOf(request.visibilityTimeout) ?? defaultHoldMicros,
      wanted: () => request.maxMessages || 1,
      signal: call.signal,
      waitMs: Number((microsOf(request.waitTimeout) ?? 0n) / 1000n),
      onWait: (found) => watched.begin(found),
    });
    return { deliveries: await openUnlessGone(options, mailbox, received, call) };
  } finally {
    watched.end();
  }
}

/**
 * Opens what was taken for a call. If that has ended meanwhile, it is given back at once, since nobody has seen it. What
 * was handed to the transport is left to its hold: the peer may have it although its stream broke, and would not be the
 * only holder otherwise.
 */
async function openUnlessGone(
  { desk, seals }: ReceivingOptions,
  mailbox: WaitedLease,
  received: Received,
  call: Call,
): Promise<MessageInitShape<typeof MessageDeliverySchema>[]> {
  const deliveries = received.deliveries.length === 0 ? [] : await openDeliveries(seals, received);
  if (call.signal.aborted) {
    await desk.takeBack(mailbox, received.deliveries);
    call.signal.throwIfAborted();
  }
  return deliveries;
}

/** Cuts a call that waits or streams at the end of its mailbox or key. */
class WatchedCall {
  readonly #options: ReceivingOptions;
  readonly #caller: Caller;
  readonly #call: Call;
  #stop: (() => void) | undefined;

  constructor(options: ReceivingOptions, caller: Caller, call: Call) {
    this.#options = options;
    this.#caller = caller;
    this.#call = call;
  }

  /** Without effect if it is watched already. */
  begin({ lease, now, askedAtMs }: FoundMailbox): void {
    this.#stop ??= this.#options.watch.watch({
      lease,
      now,
      askedAtMs,
      cut: (error) => this.#call.abort(error),
      caller: { caller: this.#caller, scope: "write" },
    });
  }

  end(): void {
    this.#stop?.();
  }
}
