/** Owns where a download goes: a name that harms nobody, in the folder that was asked for, and never over another file unasked. */
import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { TargetExistsError } from "../client/part-file.ts";
import { CommandError } from "./exit-codes.ts";

/** Where a download goes. */
export interface DownloadTarget {
  /** The whole path of the file. */
  readonly path: string;
  readonly replace: boolean;
  /** The path of a part file beside it. */
  part(id: string): string;
}

/** What the options say. */
export interface TargetOptions {
  readonly output?: string;
  readonly force?: boolean;
}

/**
 * Chooses the path: what `-o` names, in it if that is a folder, else the content's own name here.
 *
 * @throws CommandError if there is no such folder; TargetExistsError if there is a file already that is not to be replaced.
 */
export function downloadTarget(options: TargetOptions, name: string, nameless: string): DownloadTarget {
  const output = resolve(options.output ?? ".");
  const isFolder =
    statSync(output, { throwIfNoEntry: false })?.isDirectory() === true || /[/\\]$/.test(options.output ?? "");
  const path = isFolder ? join(output, harmlessName(name) || nameless) : output;
  if (!existsSync(dirname(path))) {
    throw new CommandError("usage", `${dirname(path)} does not exist: make the folder first`);
  }
  const replace = options.force === true;
  if (!replace && existsSync(path)) {
    throw new TargetExistsError(`${path} exists`);
  }
  return { path, replace, part: (id) => join(dirname(path), `${id}.part`) };
}

/**
 * A file name for an item of a claim, another for each item: its own name, if that is a plain one that differs from the
 * others on any file system. A name of another kind, such as a key with slashes, is told by items.jsonl.
 */
export function itemFileName(name: string): string {
  return /^[a-z0-9_][a-z0-9_.-]{0,99}(?<!\.)$/.test(name) && name !== "items.jsonl"
    ? name
    : `${harmlessName(name).slice(0, 40)}~${createHash("sha256").update(name).digest("hex").slice(0, 16)}`;
}

/**
 * A file name that a stranger gave, as one that stays in its folder, is not hidden, and shows as it is: without
 * characters that some system forbids, or that only change how others are displayed. Empty if nothing is left.
 */
export function harmlessName(name: string): string {
  return basename(name.replaceAll("\\", "/"))
    .replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}/\\:*?"<>|]/gu, "_")
    .replace(/^[. ]+/, (dots) => "_".repeat(dots.length))
    .replace(/[. ]+$/, "");
}
