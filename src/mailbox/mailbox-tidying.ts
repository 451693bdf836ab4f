/** What becomes due in live mailboxes although nobody calls: kept messages go, and exhausted ones die. */
import type { Database } from "../database/database.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import { buryExhausted } from "./dead-statements.ts";
import { deleteKept, findExhausted, findIdleKept } from "./mailbox-content-statements.ts";

/** Tidies mailboxes for one sweeper. */
export class MailboxTidying {
  readonly #database: Database;
  readonly #wakeups: Wakeups;
  /** Where the round over mailboxes with held messages has come to. Undefined: it begins. */
  #lookedUpTo: LeaseUuid | undefined;

  constructor(database: Database, wakeups: Wakeups) {
    this.#database = database;
    this.#wakeups = wakeups;
  }

  /** Does at most `limit` of each. Gives how many messages that were. */
  async tidy(limit: number): Promise<number> {
    return (await this.#removeKept(limit)) + (await this.#bury(limit));
  }

  /** Removes messages that were kept for claims which are over. */
  async #removeKept(limit: number): Promise<number> {
    let removed = 0;
    for (const { owner_id, lease_id } of await this.#database.run(findIdleKept, [limit])) {
      const values = [owner_id, lease_id, limit - removed];
      removed += (await this.#database.run(deleteKept, values, { repeatable: true })).length;
      if (removed >= limit) {
        break;
      }
    }
    return removed;
  }

  /**
   * Makes exhausted messages dead, so that they are listed and let their groups go on although nobody receives. A call
   * looks at `limit` mailboxes, and the next at those after them.
   */
  async #bury(limit: number): Promise<number> {
    const mailboxes = await this.#database.run(findExhausted, [this.#lookedUpTo ?? null, limit]);
    this.#lookedUpTo = mailboxes.length < limit ? undefined : mailboxes.at(-1)?.lease_id;
    let buried = 0;
    for (const { owner_id, lease_id } of mailboxes.filter(({ has_exhausted }) => has_exhausted)) {
      const [row] = await this.#database.run(buryExhausted, [owner_id, lease_id, limit], { repeatable: true });
      const buriedHere = row?.buried_messages ?? 0;
      buried += buriedHere;
      if (buriedHere > 0) {
        this.#wakeups.changed(lease_id);
      }
    }
    return buried;
  }
}
