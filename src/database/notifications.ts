/** Postgres's LISTEN and NOTIFY, over one connection of a process, which is made again whenever it breaks. */
import { Client } from "pg";

/** What is heard on a channel. */
export interface NotificationListener {
  /** What another process has sent. Not what this one has. */
  readonly heard: (payload: string) => void;
  /** What was sent since the connection broke is lost. */
  readonly missed: () => void;
}

const reconnectDelayMs = 1_000;
/** How long Postgres may take to answer, in milliseconds: a connection that has fallen silent does not end by itself. */
const answerTimeMs = 5_000;

/** Nothing is sent or heard before the first `listen`. What is sent while the connection is away is lost. */
export class Notifications {
  readonly #url: string;
  readonly #listeners = new Map<string, NotificationListener>();
  #client: Client | undefined;
  #connecting: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(url: string) {
    this.#url = url;
  }

  /** Listens on a channel, from when the promise resolves. A channel has one listener. */
  async listen(channel: string, listener: NotificationListener): Promise<void> {
    this.#listeners.set(channel, listener);
    await (this.#client === undefined ? this.#connect() : this.#client.query(`listen ${channel}`));
  }

  /**
   * Sends to the listeners of other processes. Outside of any transaction: inside, it would lock all commits. Rejects if
   * it is not known to be sent, and then makes the connection again.
   */
  async notify(channel: string, payload: string): Promise<void> {
    const client = this.#client;
    try {
      await client?.query("select pg_notify($1, $2)", [channel, payload]);
    } catch (error) {
      this.#lost(client);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    await this.#connecting;
    const client = this.#client;
    this.#client = undefined;
    await client?.end();
  }

  #connect(): Promise<void> {
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  /** Never rejects: who cannot connect now tries again later, and whoever listens looks for itself meanwhile. */
  async #open(): Promise<void> {
    const client = new Client({
      connectionString: this.#url,
      keepAlive: true,
      connectionTimeoutMillis: answerTimeMs,
      query_timeout: answerTimeMs,
      application_name: "leasehold-wakeups",
    });
    let processId: number | undefined;
    client.on("notification", (message) => {
      if (message.processId !== processId) {
        this.#listeners.get(message.channel)?.heard(message.payload ?? "");
      }
    });
    client.on("error", () => this.#lost(client));
    client.on("end", () => this.#lost(client));
    try {
      await client.connect();
      const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
      processId = rows[0]?.pid;
      for (const channel of this.#listeners.keys()) {
        await client.query(`listen ${channel}`);
      }
      this.#client = client;
      for (const listener of this.#listeners.values()) {
        listener.missed();
      }
    } catch {
      await client.end().catch(() => undefined);
      this.#retryLater();
    }
  }

  #lost(client: Client | undefined): void {
    if (client !== undefined && this.#client === client) {
      this.#client = undefined;
      void client.end().catch(() => undefined);
      this.#retryLater();
    }
  }

  #retryLater(): void {
    if (!this.#isClosed) {
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => void this.#connect(), reconnectDelayMs).unref();
    }
  }
}
