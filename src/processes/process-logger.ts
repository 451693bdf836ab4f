/** Owns the log of a process: one JSON object a line on stderr, or on a terminal the same in words. */
import { type Logger, pino } from "pino";

/** Makes the log. `process` names the process in every line. */
export function processLogger(name: string, level: string): Logger {
  const form = process.stderr.isTTY ? toWords : (line: string) => line;
  // Node writes to a file or terminal at once: a line that explains an end is not lost with the process.
  return pino({ name, level }, { write: (line: string) => void process.stderr.write(form(line)) });
}

const hidden = new Set(["level", "time", "pid", "hostname", "name", "msg", "err"]);

/** `12:03:04 serve warn: the database is away (method=... door=http)`. */
function toWords(line: string): string {
  const entry: Record<string, unknown> = JSON.parse(line);
  const time = new Date(Number(entry.time)).toTimeString().slice(0, 8);
  const details = Object.entries(entry)
    .filter(([key]) => !hidden.has(key))
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  const failure = isFailure(entry.err) ? [entry.err.message] : [];
  const rest = [...failure, ...details].join(" ");
  const level = pino.levels.labels[Number(entry.level)] ?? "info";
  return `${time} ${entry.name} ${level}: ${entry.msg ?? ""}${rest === "" ? "" : ` (${rest})`}\n`;
}

function isFailure(value: unknown): value is { message: string } {
  return value instanceof Object && "message" in value && typeof value.message === "string";
}
