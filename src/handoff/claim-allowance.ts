/** How much of a claim may be sent: in all, and before it is counted. */

/** How much is counted as sent before it is sent, in bytes, so that a crash cannot lose the count. */
export const aheadBytes = 8n * 1024n * 1024n;

/** How much of the rest of a content is counted as sent ahead. */
export function aheadOf(restBytes: bigint): bigint {
  return restBytes > aheadBytes ? aheadBytes : restBytes;
}

/** A claim may be sent twice its size, and so much more that small content can be resumed often. */
export const servedSlackBytes = 1_048_576n;

/** The most that is sent for a claim of a content, repeats included. */
export function servedLimitOf(contentBytes: bigint): bigint {
  return 2n * contentBytes + servedSlackBytes;
}

/** Content up to this size is reserved and delivered in one commit, if the claim has a request_id. */
export const deliveredAtOnceBytes = 65_536n;
