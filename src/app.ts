/** The composition: every part of a Leasehold process, built from its configuration and wired to the others. */
import { join } from "node:path";
import type { Logger } from "pino";
import { AccountService } from "#gen/leasehold/v1/account_pb.js";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { CheckpointService } from "#gen/leasehold/v1/checkpoint_pb.js";
import { CronService } from "#gen/leasehold/v1/cron_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { ScratchpadService } from "#gen/leasehold/v1/scratchpad_pb.js";
import { accountService } from "./account/account-service.ts";
import { Callers } from "./account/caller.ts";
import { adminService } from "./admin/admin-service.ts";
import { Operator } from "./admin/operator.ts";
import { CheckpointBodies } from "./checkpoint/checkpoint-bodies.ts";
import { CheckpointFiles } from "./checkpoint/checkpoint-files.ts";
import { CheckpointReads } from "./checkpoint/checkpoint-reads.ts";
import { checkpointService } from "./checkpoint/checkpoint-service.ts";
import { CheckpointVariant } from "./checkpoint/checkpoint-variant.ts";
import type { Config } from "./config/settings.ts";
import type { ContentStore } from "./content/content-store.ts";
import { DirectoryStore } from "./content/directory-store.ts";
import type { KeyFolder } from "./content/key-folder.ts";
import { CronFirer } from "./cron/cron-firer.ts";
import { cronService } from "./cron/cron-service.ts";
import { CronVariant } from "./cron/cron-variant.ts";
import type { Database } from "./database/database.ts";
import { DatabaseClock } from "./database/database-clock.ts";
import { Claims } from "./handoff/claims.ts";
import { handoffRoutes } from "./handoff/handoff-routes.ts";
import { handoffService } from "./handoff/handoff-service.ts";
import { TokenHolders } from "./handoff/token-holders.ts";
import { openKeyFolder } from "./installation/installation.ts";
import { LeaseDestroyer } from "./lease/lease-destroyer.ts";
import { LeaseMaker } from "./lease/lease-maker.ts";
import { leaseRoutes } from "./lease/lease-routes.ts";
import { LeaseSeals } from "./lease/lease-seals.ts";
import { CallerLeases, leaseService } from "./lease/lease-service.ts";
import { LeaseVariants } from "./lease/lease-variant.ts";
import { LeaseView } from "./lease/lease-view.ts";
import { LeaseWatch } from "./lease/lease-watch.ts";
import { Drops } from "./mailbox/drops.ts";
import { mailboxRoutes } from "./mailbox/mailbox-routes.ts";
import { mailboxService } from "./mailbox/mailbox-service.ts";
import { MailboxVariant } from "./mailbox/mailbox-variant.ts";
import { WebhookSender } from "./mailbox/webhook-sender.ts";
import { PricingBook } from "./pricing/pricing-book.ts";
import { PricingView } from "./pricing/pricing-view.ts";
import { publishedLimits } from "./published-limits.ts";
import { EntryExpiry } from "./scratchpad/entry-expiry.ts";
import { EntryGathering } from "./scratchpad/entry-gathering.ts";
import { scratchpadService } from "./scratchpad/scratchpad-service.ts";
import { ScratchpadVariant } from "./scratchpad/scratchpad-variant.ts";
import type { Call } from "./server/call.ts";
import type { Route } from "./server/router.ts";
import { type MountedService, mountService } from "./server/service-implementation.ts";
import { StorageBodies } from "./storage/storage-body.ts";
import { storageRoutes } from "./storage/storage-routes.ts";
import { storageService } from "./storage/storage-service.ts";
import { StorageUploads } from "./storage/storage-uploads.ts";
import { StorageVariant } from "./storage/storage-variant.ts";
import { sweepTasks } from "./sweeper/sweep-tasks.ts";
import { Sweeper } from "./sweeper/sweeper.ts";
import { Wakeups } from "./wakeups/wakeups.ts";

/** What every process has: leases, and the ways to end and destroy them. */
export interface Core {
  readonly config: Config;
  readonly logger: Logger;
  readonly database: Database;
  readonly keyFolder: KeyFolder;
  readonly seals: LeaseSeals;
  readonly store: DirectoryStore;
  readonly bodies: StorageBodies;
  readonly checkpoints: CheckpointParts;
  readonly variants: LeaseVariants;
  readonly destroyer: LeaseDestroyer;
  readonly holders: TokenHolders;
  readonly claims: Claims;
  readonly wakeups: Wakeups;
  /** Removes the entries of scratchpads whose time is over. */
  readonly expiry: EntryExpiry;
  readonly clock: DatabaseClock;
}

/** What Checkpoint leases are read and written with. */
export interface CheckpointParts {
  readonly reads: CheckpointReads;
  readonly bodies: CheckpointBodies;
  readonly files: CheckpointFiles;
}

/**
 * Opens what every process has, over a migrated database.
 *
 * @throws KeyFolderError if the key folder does not fit the database.
 */
export async function openCore(config: Config, database: Database, logger: Logger): Promise<Core> {
  const keyFolder = await openKeyFolder(database, config);
  // Installations that are given one folder by mistake never see each other's files, which look like orphans.
  const contentDir = join(config.contentDir, keyFolder.installationId);
  const store = await DirectoryStore.open(contentDir);
  const seals = new LeaseSeals(keyFolder);
  const bodies = new StorageBodies(database, store, seals);
  // A store for each variant that has files: what one takes for orphans is never another's.
  const checkpointStore = await DirectoryStore.open(join(contentDir, "checkpoint"));
  const checkpoints = openCheckpoints(config, database, seals, checkpointStore);
  const { serverKeys } = keyFolder;
  const wakeups = await Wakeups.open(database, logger);
  const expiry = new EntryExpiry(database, wakeups);
  const clock = await DatabaseClock.read(database);
  const variants: LeaseVariants = new LeaseVariants([
    new StorageVariant({ database, seals, store, bodies, maxFileBytes: config.maxFileBytes }),
    new CheckpointVariant({ database, seals, ...checkpoints, maxFileBytes: config.maxFileBytes }),
    new MailboxVariant({ database, seals, serverKeys, wakeups, tokenKey: await serverKeys.latest() }),
    new CronVariant({
      database,
      seals,
      clock,
      serverKeys,
      tokenKey: await serverKeys.latest(),
      variantOf: (lease) => variants.of(lease),
    }),
    new ScratchpadVariant({
      database,
      seals,
      expiry,
      wakeups,
      gathering: new EntryGathering(database, seals),
      maxDurationSeconds: config.scratchpadMaxDurationSeconds,
    }),
  ]);
  const destroyer = new LeaseDestroyer(database, variants, seals);
  const holders = new TokenHolders(database);
  const claims = new Claims({
    database,
    holders,
    variants,
    destroyer,
    holdSeconds: config.claimHoldSeconds,
    holdCapSeconds: config.claimHoldCapSeconds,
  });
  return {
    config,
    logger,
    database,
    keyFolder,
    seals,
    store,
    bodies,
    checkpoints,
    variants,
    destroyer,
    holders,
    claims,
    wakeups,
    expiry,
    clock,
  };
}

function openCheckpoints(config: Config, database: Database, seals: LeaseSeals, store: ContentStore): CheckpointParts {
  const reads = new CheckpointReads(database);
  const bodies = new CheckpointBodies({ store, seals, reads, maxMessageBytes: config.maxMessageBytes });
  return { reads, bodies, files: new CheckpointFiles(database, store) };
}

/** What a server serves. */
export interface Api {
  readonly services: readonly MountedService[];
  readonly routes: readonly Route[];
}

/** Builds every RPC and plain route. `publicUrl`: where plain HTTP is reached from outside. */
export async function buildApi(
  core: Core,
  options: { readonly publicUrl: string; readonly adminToken: string },
): Promise<Api> {
  const { config, database, variants, destroyer, seals, keyFolder, holders, claims, wakeups } = core;
  const pricing = new PricingBook(database);
  await pricing.initialize({
    rateMicrosPerGibDay: config.rateMicrosPerGibDay,
    minChargeMicros: config.minChargeMicros,
    minDurationSeconds: BigInt(config.minDurationSeconds),
    maxDurationSeconds: BigInt(config.maxDurationSeconds),
    firingMicros: config.firingMicros,
  });
  const pricingView = new PricingView(variants.all, publishedLimits(config));
  const callers = new Callers(database);
  const view = new LeaseView(variants, seals);
  const watch = new LeaseWatch(database, core.logger);
  const maker = new LeaseMaker({
    database,
    clock: core.clock,
    pricing,
    seals,
    variants,
    contentWindowSeconds: config.uploadWindowSeconds,
  });
  const { serverKeys } = keyFolder;
  // The first version, whatever has been added since: a digest is compared with those of earlier years.
  await serverKeys.latest();
  const digestKey = (await serverKeys.get(1)).key;
  const leaseOptions = { database, callers, variants, maker, view, destroyer, pricing, pricingView, digestKey };
  const leases = new CallerLeases(leaseOptions);
  const uploads = new StorageUploads({ database, seals, store: core.store, bodies: core.bodies });
  const storageOptions = { database, callers, leases, view, watch, uploads, bodies: core.bodies, seals };
  const { publicUrl } = options;
  const handoffOptions = { database, callers, variants, holders, claims, serverKeys, publicUrl };
  const checkpointOptions = { database, callers, seals, ...core.checkpoints, watch, wakeups, digestKey };
  const mailboxOptions = {
    database,
    callers,
    seals,
    serverKeys,
    wakeups,
    drops: new Drops({ database, seals, wakeups, digestKey }),
    watch,
    maxMessageBytes: config.maxMessageBytes,
    digestKey,
  };
  const operator = new Operator(options.adminToken);
  const authenticate = (call: Call) => callers.authenticate(call);
  return {
    services: [
      mountService(
        LeaseService,
        { ...leaseService(leaseOptions, leases), ...storageService(storageOptions) },
        { authenticate },
      ),
      mountService(CheckpointService, checkpointService(checkpointOptions), { authenticate }),
      mountService(MailboxService, mailboxService(mailboxOptions), { authenticate }),
      mountService(
        ScratchpadService,
        scratchpadService({ database, callers, seals, watch, wakeups, expiry: core.expiry, digestKey }),
        { authenticate },
      ),
      mountService(CronService, cronService({ database, callers }), { authenticate }),
      mountService(HandoffService, handoffService(handoffOptions), { authenticate }),
      mountService(AccountService, accountService({ database, callers, serverKeys, digestKey }), { authenticate }),
      mountService(
        AdminService,
        adminService({ database, pricing, pricingView, serverKeys, digestKey, variants: variants.all, operator }),
        { operatorOnly: true, authenticate: async (call) => operator.require(call) },
      ),
    ],
    routes: [
      ...leaseRoutes(leaseOptions),
      ...storageRoutes(storageOptions).map((route) => ({ ...route, authenticate })),
      ...handoffRoutes(handoffOptions),
      ...mailboxRoutes(mailboxOptions),
    ],
  };
}

/** Builds the sweeper. */
export function buildSweeper(core: Core): Sweeper {
  const { config, database, variants, destroyer, claims, keyFolder } = core;
  const tasks = sweepTasks({
    database,
    variants,
    destroyer,
    claims,
    keyFolder,
    intervalMs: config.sweepIntervalSeconds * 1000,
    tombstoneSeconds: config.tombstoneSeconds,
  });
  return new Sweeper(database, tasks, core.logger);
}

/** Builds what sends webhooks, in the sweeper's process. */
export function buildWebhookSender(core: Core): WebhookSender {
  const { config, database, seals, logger } = core;
  const { serverKeys } = core.keyFolder;
  return new WebhookSender({ database, seals, serverKeys, logger, allowPrivate: config.webhookAllowPrivate });
}

/** Builds what fires schedules, in the sweeper's process. */
export function buildCronFirer(core: Core): CronFirer {
  const { config, database, seals, logger, variants } = core;
  const { serverKeys } = core.keyFolder;
  return new CronFirer({
    database,
    seals,
    serverKeys,
    logger,
    variantOf: (lease) => variants.of(lease),
    allowPrivate: config.webhookAllowPrivate,
  });
}
