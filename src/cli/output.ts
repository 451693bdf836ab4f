/** Owns what commands write: on stdout their result, for people or as one JSON document; on stderr everything else. */
import { create, type DescMessage, type JsonValue, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { CallError } from "../client/call-error.ts";
import { exitCodes, exitOf } from "./exit-codes.ts";
import { HintedError } from "./hinted-error.ts";

/** Writes lines to stdout. */
export function print(...lines: readonly string[]): void {
  for (const line of lines) {
    process.stdout.write(`${line}\n`);
  }
}

/** Writes a line to stdout, and returns as `written` does. */
export async function printed(line: string): Promise<void> {
  await written(`${line}\n`);
}

/**
 * Writes to stdout, and returns when the system has taken it. If nobody reads any more it does not return, for the
 * process ends then.
 */
export async function written(data: string | Uint8Array): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  process.stdout.write(data, (error) => {
    if (error === null || error === undefined) {
      resolve();
    }
  });
  await promise;
}

/** Writes a line to stderr. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** What to tell a Retries: that the call is made again, unless only JSON is to be written. */
export function noteRetry(options: { readonly json?: boolean }): (error: CallError) => void {
  return (error) => {
    if (options.json !== true) {
      note(`${error.message}; trying again`);
    }
  };
}

/** Writes a value as the one JSON document of `--json`. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 2));
}

/** Writes a message: its proto3 JSON form with `--json`, else as `forPeople` does. */
export function show<Desc extends DescMessage>(
  options: { readonly json?: boolean },
  descriptor: Desc,
  message: MessageInitShape<Desc>,
  forPeople: () => void,
): void {
  if (options.json === true) {
    printJson(messageJson(descriptor, message));
  } else {
    forPeople();
  }
}

/** Fields with their default value are there too, so that a program finds what it looks for. */
export function messageJson<Desc extends DescMessage>(descriptor: Desc, message: MessageInitShape<Desc>): JsonValue {
  return toJson(descriptor, create(descriptor, message), { alwaysEmitImplicit: true });
}

/** Writes rows in columns under a head; of no rows, only what is said instead. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[], whenEmpty: string): void {
  if (rows.length === 0) {
    note(whenEmpty);
    return;
  }
  const widths = head.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of [head, ...rows]) {
    print(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  }
}

/** Writes names and values in two columns, leaving out what has no value. */
export function printFields(fields: Readonly<Record<string, string | undefined>>): void {
  const shown = Object.entries(fields).filter(([, value]) => value !== undefined && value !== "");
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  for (const [name, value] of shown) {
    print(`${name.padEnd(width)}  ${value}`);
  }
}

/** Writes why a command failed, in one line or as one JSON document, and sets the exit code. */
export function reportFailure(thrown: unknown, asJson: boolean): void {
  const hinted = thrown instanceof HintedError ? thrown : undefined;
  const error = hinted === undefined ? thrown : hinted.failure;
  const { code: exitCode } = exitCodes[exitOf(error)];
  process.exitCode = exitCode;
  const message = oneLine(error instanceof Error ? error.message : String(error));
  if (!asJson) {
    const reason = isCall(error) ? ` (${error.reason})` : "";
    const hint = hinted?.hint ?? hintOf(error);
    note(`leasehold: ${message}${violationsOf(error)}${reason}${hint === undefined ? "" : `; ${hint}`}`);
    return;
  }
  const details = isCall(error)
    ? {
        code: error.code,
        reason: error.reason,
        metadata: error.metadata,
        ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
        ...(error.fieldViolations.length === 0 ? {} : { fieldViolations: error.fieldViolations }),
      }
    : {};
  const next = hinted === undefined ? {} : { hint: hinted.hint, ...hinted.ids };
  note(JSON.stringify({ error: { ...details, message, exitCode, ...next } }));
}

function isCall(error: unknown): error is CallError {
  return error instanceof CallError;
}

function hintOf(error: unknown): string | undefined {
  return isCall(error) && error.reason === "CONNECTION_FAILED"
    ? "start a server with leasehold dev, or name another with LEASEHOLD_URL"
    : undefined;
}

/** What the message of a request with several bad fields does not say of each. */
function violationsOf(error: unknown): string {
  const [first, ...others] = isCall(error) ? error.fieldViolations : [];
  return first === undefined || others.length === 0
    ? ""
    : ` [${[first, ...others].map(({ field, description }) => `${field}: ${description}`).join("; ")}]`;
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*\n\s*/g, " ");
}
