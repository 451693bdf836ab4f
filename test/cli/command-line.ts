/** The command line of one caller of a test's server, in a folder of its own. */
import { join } from "node:path";
import { leasehold, type Outcome, Spawned } from "../processes/spawned.ts";
import { temporaryFolder } from "../processes/temporary-data-dir.ts";
import { adminToken, type TestLeasehold } from "../support/test-leasehold.ts";

/** Runs commands. */
export class CommandLine {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;

  constructor(folder: string, env: Readonly<Record<string, string>>) {
    this.folder = folder;
    this.env = env;
  }

  /** With an account's key and the admin token. */
  static async of(house: TestLeasehold, balanceMicros?: bigint): Promise<CommandLine> {
    const { apiKey } = await house.account(balanceMicros);
    return new CommandLine(await temporaryFolder(), {
      XDG_STATE_HOME: await temporaryFolder(),
      LEASEHOLD_URL: house.httpUrl,
      LEASEHOLD_API_KEY: apiKey,
      LEASEHOLD_ADMIN_TOKEN: adminToken,
    });
  }

  /** The same folder with other settings. */
  with(env: Readonly<Record<string, string>>): CommandLine {
    return new CommandLine(this.folder, { ...this.env, ...env });
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  async run(...words: readonly string[]): Promise<Outcome> {
    return await leasehold(words, { cwd: this.folder, env: this.env });
  }

  /** A command that reads from stdin. */
  async feed(input: string | Uint8Array, ...words: readonly string[]): Promise<Outcome> {
    return await leasehold(words, { cwd: this.folder, env: this.env, input });
  }

  /** A command that runs until it is interrupted. */
  start(...words: readonly string[]): Spawned {
    return new Spawned(words, { cwd: this.folder, env: this.env });
  }

  /** What a command prints that succeeds. */
  async print(...words: readonly string[]): Promise<string> {
    const outcome = await this.run(...words);
    if (outcome.exit !== 0) {
      throw new Error(`leasehold ${words.join(" ")} ended with ${outcome.exit}: ${outcome.stderr}`);
    }
    return outcome.stdout.trimEnd();
  }

  /** The one JSON document that a command prints that succeeds. */
  async json(...words: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.print(...words, "--json"));
  }

  /** How a command fails: its exit code and the JSON that explains it. */
  async failure(...words: readonly string[]): Promise<{ exit: number | string; error: unknown; stdout: string }> {
    const { exit, stdout, stderr } = await this.run(...words, "--json");
    return { exit, stdout, error: JSON.parse(stderr).error };
  }
}
