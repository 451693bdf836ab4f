/** A mailbox of a test's server, as its owner and as a stranger without an account use it from their command lines. */
import type { TestLeasehold } from "../support/test-leasehold.ts";
import { CommandLine } from "./command-line.ts";

/** A delivery, as `recv --json` has it. */
export interface Delivery {
  readonly message: { readonly messageId: string; readonly body: string };
  readonly receipt: string;
}

/** A mailbox. */
export class MailboxLines {
  readonly owner: CommandLine;
  /** Has the drop token in its environment, and no API key. */
  readonly stranger: CommandLine;
  readonly leaseId: string;
  readonly dropToken: string;
  readonly dropUrl: string;

  private constructor(owner: CommandLine, stranger: CommandLine, made: Made) {
    this.owner = owner;
    this.stranger = stranger;
    this.leaseId = made.lease.leaseId;
    this.dropToken = made.dropToken;
    this.dropUrl = made.dropUrl;
  }

  /** Made with further words of `mailbox create`. */
  static async open(house: TestLeasehold, ...words: readonly string[]): Promise<MailboxLines> {
    const owner = await CommandLine.of(house);
    const made = (await owner.json("mailbox", "create", "--size", "1MiB", "--duration", "1h", ...words)) as Made;
    const { folder } = await CommandLine.of(house);
    const env = { LEASEHOLD_URL: house.httpUrl, LEASEHOLD_DROP_TOKEN: made.dropToken };
    return new MailboxLines(owner, new CommandLine(folder, env), made);
  }

  /** What `recv` gives. */
  async receive(...words: readonly string[]): Promise<readonly Delivery[]> {
    return ((await this.owner.json("recv", this.leaseId, ...words)) as { deliveries: Delivery[] }).deliveries;
  }
}

interface Made {
  readonly lease: { readonly leaseId: string };
  readonly dropToken: string;
  readonly dropUrl: string;
}
