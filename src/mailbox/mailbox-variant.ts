/** Mailbox as the primitive sees it: messages that are added by whoever holds the drop token, until the owner has handled them. */
import { type CreateLeaseRequest, Lease_Variant, Lease_WriteAccess } from "#gen/leasehold/v1/lease_pb.js";
import type { ServerKey, ServerKeys } from "../content/server-keys.ts";
import type { Database, Transaction } from "../database/database.ts";
import { invalidField } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type {
  DeliveredContent,
  Delivery,
  DeliveryOutcome,
  EndedLease,
  LeaseContent,
  LeaseDetails,
  LeaseSecrets,
  LeaseSpecification,
  LeaseVariant,
  OpenedLease,
} from "../lease/lease-variant.ts";
import { describeBytesSeconds, type VariantTerms } from "../pricing/variant-terms.ts";
import { deriveToken, hashToken } from "../secrets/secret-token.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import { webhookSecret } from "../webhooks/webhook-secret.ts";
import { bodyTooLarge } from "./drop-refusals.ts";
import { openSnapshot } from "./mailbox-content.ts";
import { deliverMessages } from "./mailbox-delivery.ts";
import { destroyMailboxes } from "./mailbox-destruction.ts";
import { messageOverheadBytes, packMailbox, specifiedMailbox, unpackMailbox } from "./mailbox-details.ts";
import { type MailboxTerms, mailboxCreation } from "./mailbox-statements.ts";
import { MailboxTidying } from "./mailbox-tidying.ts";

/** What the variant needs. */
export interface MailboxVariantOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly serverKeys: ServerKeys;
  readonly wakeups: Wakeups;
  /** The key that the secrets of new mailboxes are derived from. */
  readonly tokenKey: ServerKey;
}

/** Messages lie in rows: a mailbox that never empties is not to fill the database. */
const maxMailboxBytes = 10n * 1_073_741_824n;

/** The Mailbox variant. */
export class MailboxVariant implements LeaseVariant {
  readonly variant = Lease_Variant.MAILBOX;
  readonly name = "mailbox";
  readonly writeAccess = Lease_WriteAccess.OWNER_AND_DROPPERS;
  readonly waitsForContent = false;
  readonly hasOneItem = false;
  readonly creation = mailboxCreation;
  readonly pricing: VariantTerms = {
    formula: "bytes_seconds",
    description: describeBytesSeconds(),
    sizeMeaning: "the capacity: the bodies stored at once, and 256 bytes for each message",
    minSizeBytes: 1_024n,
    maxSizeBytes: maxMailboxBytes,
  };
  readonly #options: MailboxVariantOptions;
  readonly #tidying: MailboxTidying;

  constructor(options: MailboxVariantOptions) {
    this.#options = options;
    this.#tidying = new MailboxTidying(options.database, options.wakeups);
  }

  specify(request: CreateLeaseRequest): LeaseSpecification {
    const { tokenKey } = this.#options;
    const spec = request.variant.case === "mailbox" ? request.variant.value : undefined;
    const mailbox = specifiedMailbox(spec, request.sizeBytes, tokenKey.version);
    if (mailbox.webhookUrl !== "" && !URL.canParse(mailbox.webhookUrl)) {
      throw invalidField("mailbox.webhook_url", "must be an https or http URL");
    }
    return {
      details: packMailbox(mailbox),
      rows: async ({ leaseId }) => {
        const { webhookUrl, ...limits } = mailbox;
        const dropTokenHash = hashToken(deriveToken("drop", tokenKey.key, leaseId, 1)).toString("hex");
        const terms: MailboxTerms = { ...limits, dropTokenHash, hasWebhook: webhookUrl !== "" };
        return { terms: { ...terms } };
      },
    };
  }

  details(leases: readonly OpenedLease[]): readonly LeaseDetails[] {
    return leases.map(detailsOf);
  }

  /** The first drop token, whatever has replaced it since, and the webhook secret. None once the lease has ended. */
  async secretsOf(lease: LeaseRow): Promise<LeaseSecrets> {
    const { seals, serverKeys } = this.#options;
    const sealed = await seals.openDetails(lease);
    if (sealed === undefined) {
      return {};
    }
    const { tokenKeyVersion, webhookUrl } = unpackMailbox(sealed);
    const { key } = await serverKeys.get(tokenKeyVersion);
    const dropToken = deriveToken("drop", key, lease.lease_id, 1);
    return webhookUrl === "" ? { dropToken } : { dropToken, webhookSecret: webhookSecret(key, lease.lease_id) };
  }

  async openContent(lease: LeaseRow, version: bigint): Promise<LeaseContent> {
    return await openSnapshot(this.#options, lease, version);
  }

  async checkDelivery(target: LeaseRow, { bodyBytes }: DeliveredContent): Promise<void> {
    const sealed = await this.#options.seals.openDetails(target);
    const limitBytes = sealed === undefined ? 0 : unpackMailbox(sealed).maxMessageBytes;
    if (bodyBytes > limitBytes) {
      throw bodyTooLarge(limitBytes, bodyBytes);
    }
  }

  async deliver(transaction: Transaction, deliveries: readonly Delivery[]): Promise<readonly DeliveryOutcome[]> {
    return await deliverMessages(transaction, this.#options.seals, deliveries);
  }

  delivered(leaseId: LeaseUuid): void {
    this.#options.wakeups.changed(leaseId);
  }

  async destroy(leases: readonly EndedLease[]): Promise<void> {
    await destroyMailboxes(this.#options.database, leases);
  }

  async removeOrphans(): Promise<number> {
    return 0;
  }

  async tidy(limit: number): Promise<number> {
    return await this.#tidying.tidy(limit);
  }
}

function detailsOf({ lease, sealed }: OpenedLease): LeaseDetails {
  if (sealed === undefined) {
    return { case: "mailbox", value: {} };
  }
  const { tokenKeyVersion: _, ...shown } = unpackMailbox(sealed);
  const messageCount = lease.content_items;
  const usedBytes = lease.content_bytes + BigInt(messageOverheadBytes) * messageCount;
  return { case: "mailbox", value: { ...shown, messageCount, usedBytes } };
}
