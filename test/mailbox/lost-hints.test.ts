/** Issue 3: hints go on reaching other processes, whatever becomes of the connection that carries them. */
import { expect, onTestFinished, test } from "vitest";
import { Notifications } from "../../src/database/notifications.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { WayToPostgres } from "../support/way-to-postgres.ts";

const leasehold = await TestLeasehold.start();
const { database, databaseUrl } = leasehold;
const channel = "test_hints";

/** One process's end of the channel. */
class Listener {
  readonly notifications: Notifications;
  #heard = Promise.withResolvers<string>();
  #connected = Promise.withResolvers<void>();

  constructor(url: string) {
    this.notifications = new Notifications(url);
    onTestFinished(() => this.notifications.close());
  }

  async listen(): Promise<void> {
    await this.notifications.listen(channel, {
      heard: (payload) => this.#heard.resolve(payload),
      missed: () => this.#connected.resolve(),
    });
  }

  /** What it hears next. */
  async next(): Promise<string> {
    this.#heard = Promise.withResolvers();
    return await this.#heard.promise;
  }

  /** Resolves when it is connected again. Call it before the connection breaks. */
  async reconnected(): Promise<void> {
    this.#connected = Promise.withResolvers();
    await this.#connected.promise;
  }
}

test("a listener whose connection broke says that it missed something, and hears what is sent from then on", async () => {
  const [near, far] = [new Listener(databaseUrl), new Listener(databaseUrl)];
  await near.listen();
  await far.listen();
  const again = Promise.all([near.reconnected(), far.reconnected()]);
  await query(
    database,
    `select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'leasehold-wakeups'`,
  );
  await again;
  const heard = near.next();
  await far.notifications.notify(channel, "later");
  expect(await heard).toBe("later");
});

test("a connection that falls silent is given up, and what is sent after it arrives", { timeout: 30_000 }, async () => {
  const way = await WayToPostgres.open(databaseUrl);
  onTestFinished(() => way.close());
  const [near, far] = [new Listener(databaseUrl), new Listener(way.url)];
  await near.listen();
  await far.listen();
  way.loseAnswers();
  const again = far.reconnected();
  await expect(far.notifications.notify(channel, "unanswered")).rejects.toThrow();
  way.break();
  await again;
  const heard = near.next();
  await far.notifications.notify(channel, "later");
  expect(await heard).toBe("later");
});
