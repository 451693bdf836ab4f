/** Owns the name that a thread's lease is found by: its workflow_id. */
import { createHash } from "node:crypto";

const longestWorkflowId = 128;
const hashMark = "sha256.";
/** Long enough for the mark and a hash in base64url. */
export const longestPrefix = 64;

/** Whether workflow ids may begin so. */
export function isWorkflowPrefix(prefix: string): boolean {
  return /^[A-Za-z0-9._-]*$/.test(prefix) && prefix.length <= longestPrefix;
}

/**
 * The thread's id behind the prefix where a workflow_id may look so, else its SHA-256. An id that looks like such a hash
 * is hashed too, so that no two threads share a name.
 */
export function workflowIdOf(prefix: string, threadId: string): string {
  const fits = /^[A-Za-z0-9._-]+$/.test(threadId) && prefix.length + threadId.length <= longestWorkflowId;
  return fits && !threadId.startsWith(hashMark)
    ? `${prefix}${threadId}`
    : `${prefix}${hashMark}${createHash("sha256").update(threadId).digest("base64url")}`;
}
