/** The limits that GetPricing publishes: what every input is bounded by, under the names that errors use. */

import { maxKeysPerAccount } from "./account/api-key-statements.ts";
import { maxRetainedVersions } from "./checkpoint/checkpoint-details.ts";
import type { Config } from "./config/settings.ts";
import { maxSealsPerKey } from "./content/sealing.ts";
import {
  maxFirings,
  maxJitterSeconds,
  maxLatenessSeconds,
  maxPayloadBytes,
  misfireSeconds,
} from "./cron/cron-details.ts";
import { maxExpressionBytes } from "./cron/cron-expression.ts";
import { maxHandoffsPerLease } from "./handoff/handoff-statements.ts";
import { requestWindowSeconds } from "./idempotency/idempotency.ts";
import {
  maxDeliveriesLimit,
  maxMessageBytesLimit,
  maxMessagesLimit,
  messageOverheadBytes,
} from "./mailbox/mailbox-details.ts";
import { maxDropTokensPerLease } from "./mailbox/mailbox-statements.ts";
import { mostAttempts, retrySpanSeconds, shownSeconds } from "./mailbox/webhook-schedule.ts";
import type { PublishedLimit } from "./pricing/pricing-view.ts";
import {
  appendOverheadBytes,
  entryOverheadBytes,
  maxEntryBytesLimit,
  rememberedDeletions,
} from "./scratchpad/scratchpad-details.ts";
import { attemptSeconds } from "./webhooks/attempt-times.ts";

/** Every published limit, from the settings and from the schema. */
export function publishedLimits(config: Config): PublishedLimit[] {
  const limit = (name: string, value: number | bigint, unit: string, description: string): PublishedLimit => ({
    name,
    value: BigInt(value),
    unit,
    description,
  });
  return [
    limit(
      "size_bytes",
      config.maxFileBytes,
      "bytes",
      "The largest size_bytes of a Storage or a Checkpoint lease; a body is bounded by the lease's own.",
    ),
    limit("max_message_bytes", config.maxMessageBytes, "bytes", "The largest message of an RPC, decompressed."),
    limit("max_header_bytes", config.maxHeaderBytes, "bytes", "All headers of a request together."),
    limit(
      "streams_per_connection",
      config.maxStreamsPerConnection,
      "streams",
      "Calls under way on one HTTP/2 connection.",
    ),
    limit("labels", 16, "labels", "Labels of a lease."),
    limit("label_value_characters", 256, "characters", "The value of a label."),
    limit("file_name_bytes", 255, "bytes", "A file name, in UTF-8."),
    limit("content_type_bytes", 255, "bytes", "A media type."),
    limit("account_name_characters", 128, "characters", "The name of an account or of a key."),
    limit("keys_per_account", maxKeysPerAccount, "keys", "Keys of an account, dead ones included."),
    limit(
      "seals_per_lease",
      maxSealsPerKey,
      "seals",
      "How often content is sealed for one lease, over all uploads to it.",
    ),
    limit("page_size", 1_000, "entries", "A page of any list."),
    limit("mailbox_message_bytes", maxMessageBytesLimit, "bytes", "The largest max_message_bytes of a mailbox."),
    limit("mailbox_messages", maxMessagesLimit, "messages", "The largest max_messages of a mailbox."),
    limit("mailbox_deliveries", maxDeliveriesLimit, "deliveries", "The largest max_deliveries of a mailbox."),
    limit(
      "mailbox_message_overhead_bytes",
      messageOverheadBytes,
      "bytes",
      "What a message takes of a mailbox's capacity beside its body.",
    ),
    limit("webhook_url_bytes", 2_048, "bytes", "The webhook_url of a mailbox or a cron."),
    limit("message_attributes", 16, "attributes", "Attributes of a message."),
    limit("message_attribute_value_characters", 256, "characters", "The value of a message's attribute."),
    limit("message_group_bytes", 128, "bytes", "The name of a group of messages, in UTF-8."),
    limit("message_delay_seconds", 604_800, "seconds", "How long a message waits before it is delivered, or again."),
    limit("visibility_timeout_seconds", 43_200, "seconds", "How long a message is held without being extended."),
    limit("receive_window", 1_000, "messages", "Unacknowledged messages of one ReceiveMessages stream."),
    limit("pull_messages", 1_000, "messages", "Messages of one PullMessages."),
    limit("pull_wait_seconds", 20, "seconds", "How long PullMessages waits."),
    limit("receipts", 1_000, "receipts", "Receipts of one call, and messages of one RedriveMessages."),
    limit("drop_token_grace_seconds", 604_800, "seconds", "How long a replaced drop token goes on."),
    limit("drop_tokens_per_lease", maxDropTokensPerLease, "tokens", "Drop tokens of a mailbox, one after the other."),
    limit("drop_window_seconds", requestWindowSeconds, "seconds", "How long the request_id of a drop is remembered."),
    limit("handoffs_per_lease", maxHandoffsPerLease, "handoffs", "Handoffs issued for one lease."),
    limit("max_claims", 1_000, "claims", "Claims of one handoff."),
    limit("max_incomplete_claims", 3_000, "claims", "Slots of one handoff that unfinished claims may give back."),
    limit("claim_hold_seconds", config.claimHoldSeconds, "seconds", "How long a claim is held without progress."),
    limit("claim_hold_cap_seconds", config.claimHoldCapSeconds, "seconds", "How long a claim can be held at all."),
    limit(
      "upload_window_seconds",
      config.uploadWindowSeconds,
      "seconds",
      "How long a lease waits for its content before it is refunded.",
    ),
    limit("workflow_id_characters", 128, "characters", "The workflow_id of a Checkpoint lease."),
    limit("retained_versions", maxRetainedVersions, "versions", "How many versions a Checkpoint lease keeps."),
    limit("metadata_entries", 16, "entries", "Metadata of a checkpoint: keys of 1-63 characters."),
    limit("metadata_value_characters", 256, "characters", "A value of a checkpoint's metadata."),
    limit("put_window_seconds", requestWindowSeconds, "seconds", "How long the request_id of a put is remembered."),
    limit("entry_key_bytes", 256, "bytes", "The key of an entry, in UTF-8."),
    limit("entry_bytes", maxEntryBytesLimit, "bytes", "The largest max_entry_bytes of a scratchpad."),
    limit(
      "entry_overhead_bytes",
      entryOverheadBytes,
      "bytes",
      "What an entry takes of a scratchpad's room beside its key and value.",
    ),
    limit(
      "append_overhead_bytes",
      appendOverheadBytes,
      "bytes",
      "What an append takes of a scratchpad's room beside its bytes.",
    ),
    limit(
      "entry_deletions",
      rememberedDeletions,
      "deletions",
      "Entries that are gone of which a scratchpad can still tell those who watch it from an earlier version.",
    ),
    limit(
      "entry_window_seconds",
      requestWindowSeconds,
      "seconds",
      "How long the request_id of a change of an entry is remembered.",
    ),
    limit("cron_firings", maxFirings, "firings", "Firings of a Cron lease."),
    limit("cron_expression_bytes", maxExpressionBytes, "bytes", "The expression of a Cron lease."),
    limit("cron_payload_bytes", maxPayloadBytes, "bytes", "The payload of a Cron lease."),
    limit("cron_max_lateness_seconds", maxLatenessSeconds, "seconds", "How late a run is still delivered."),
    limit("cron_jitter_seconds", maxJitterSeconds, "seconds", "How long a slot is put off by chance."),
    limit(
      "cron_misfire_seconds",
      misfireSeconds,
      "seconds",
      "How late a slot may be found before the misfire policy is asked.",
    ),
    limit("stall_seconds", config.stallSeconds, "seconds", "How long a stream may move nothing."),
    limit("call_deadline_seconds", config.callDeadlineSeconds, "seconds", "How long a unary call may take."),
    limit(
      "webhook_attempts",
      mostAttempts,
      "attempts",
      "How often a mailbox's webhook notification is sent until it is delivered.",
    ),
    limit(
      "webhook_retry_seconds",
      retrySpanSeconds,
      "seconds",
      "How long a mailbox's webhook notification is tried at most: again after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, each up to a tenth sooner.",
    ),
    limit("webhook_attempt_seconds", attemptSeconds, "seconds", "How long a webhook's receiver may take to answer."),
    limit("webhook_log_seconds", shownSeconds, "seconds", "How long after a drop its webhook delivery is shown."),
    limit(
      "tombstone_seconds",
      config.tombstoneSeconds,
      "seconds",
      "How long an ended lease is still shown to its owner.",
    ),
  ];
}
