/** What a server logs, kept for a test to search, and to wait for. */
import { Writable } from "node:stream";
import { type Logger, pino } from "pino";

/** One line, as pino writes it. */
export type LogLine = Readonly<Record<string, unknown>>;

/** Collects the lines of one logger. */
export class LogLines {
  readonly logger: Logger;
  readonly lines: LogLine[] = [];
  #waiters: { readonly fits: (line: LogLine) => boolean; readonly resolve: (line: LogLine) => void }[] = [];

  constructor() {
    const stream = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        this.#add(JSON.parse(chunk.toString()) as LogLine);
        done();
      },
    });
    this.logger = pino({ level: "trace" }, stream);
  }

  /** The first line that fits, of those that were written or will be, without the first `skipped`. */
  async find(fits: (line: LogLine) => boolean, skipped = 0): Promise<LogLine> {
    const found = this.lines.slice(skipped).find(fits);
    return found ?? (await new Promise((resolve) => this.#waiters.push({ fits, resolve })));
  }

  #add(line: LogLine): void {
    this.lines.push(line);
    for (const waiter of this.#waiters.filter(({ fits }) => fits(line))) {
      waiter.resolve(line);
    }
    this.#waiters = this.#waiters.filter(({ fits }) => !fits(line));
  }
}
