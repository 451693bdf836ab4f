/** The stream of one claim: sends its content within what the claim allows, and spends the slot with the last piece. */
import type { ContentItem, LeaseContent } from "../lease/lease-variant.ts";
import type { Call } from "../server/call.ts";
import { ClaimProgress } from "./claim-progress.ts";
import type { Claims, OpenClaim } from "./claims.ts";

/** What a claim's stream carries: one start, then items and their data. Offsets are in bytes of all items together. */
export type ClaimPart =
  | { readonly kind: "start" }
  | { readonly kind: "item"; readonly item: ContentItem }
  | { readonly kind: "data"; readonly offset: bigint; readonly data: Uint8Array };

/**
 * Streams a claim as the answer of a call, which is cut with it even while its peer takes nothing. The consumer hands
 * each part to the transport, and asks for the next when it is taken.
 *
 * The slot is spent before the last piece is handed over, not after: a crash between the two leaves a claim that can be
 * resumed, where the other order could deliver one that nobody counted. Nothing is spent for a call that has ended.
 */
export async function* streamClaim(open: OpenClaim, claims: Claims, call: Call): AsyncGenerator<ClaimPart> {
  const progress = new ClaimProgress(open, claims, call);
  try {
    // The stream is watched over before anything waits for the peer to take it.
    yield { kind: "start" };
    if (open.offset === open.content.totalBytes) {
      await progress.deliver();
    }
    for await (const part of partsOf(open.content, open.offset)) {
      if (part.kind === "data") {
        await progress.send(part.offset + BigInt(part.data.length));
      }
      yield part;
    }
    progress.requireWhole();
  } finally {
    await progress.stop();
  }
}

/** The items from an offset on, each announced before its data. Items that end before the offset are not announced. */
async function* partsOf(content: LeaseContent, offset: bigint): AsyncGenerator<ClaimPart> {
  for await (const item of content.items(offset)) {
    yield { kind: "item", item };
    const from = offset > item.startOffset ? offset - item.startOffset : 0n;
    let at = item.startOffset + from;
    for await (const data of item.read(from, item.sizeBytes - from)) {
      yield { kind: "data", offset: at, data };
      at += BigInt(data.length);
    }
  }
}
