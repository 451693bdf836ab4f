/** Owns finding the programs of Postgres that npm has installed for this machine. */
import { chmod, readFile, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { hasCode } from "./has-code.ts";

/** Paths of the programs. */
export interface PostgresPrograms {
  readonly initdb: string;
  readonly postgres: string;
}

/**
 * Finds the programs and makes them ready to run. The main module of `embedded-postgres` is left alone: importing it
 * installs handlers that end the process on SIGINT and SIGTERM.
 */
export async function findPostgresPrograms(): Promise<PostgresPrograms> {
  return await makeReadyToRun(join(dirname(findPackage()), "..", "native"));
}

/**
 * Does to the package's folder what its install script does, as npm may have been told not to run it: a package cannot
 * carry links, which the libraries need, and may lose the right to execute.
 */
export async function makeReadyToRun(native: string): Promise<PostgresPrograms> {
  const programs = { initdb: join(native, "bin", "initdb"), postgres: join(native, "bin", "postgres") };
  await linkLibraries(native);
  await makeExecutable(programs.initdb);
  await makeExecutable(programs.postgres);
  return programs;
}

/** The package of this platform is a dependency of `embedded-postgres`, so it is looked up from there. */
function findPackage(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const main = createRequire(import.meta.url).resolve("embedded-postgres");
    return createRequire(main).resolve(name);
  } catch (error) {
    throw new EmbeddedPostgresError(
      `No Postgres for ${process.platform} on ${process.arch} is installed (${name}): set DATABASE_URL to one`,
      { cause: error },
    );
  }
}

async function linkLibraries(native: string): Promise<void> {
  for (const { source, target } of await readLinks(join(native, "pg-symlinks.json"))) {
    const link = join(native, "..", target);
    try {
      await symlink(relative(dirname(target), source), link);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) {
        throw new EmbeddedPostgresError(
          `Cannot make ${link}: run npm's install scripts once (npm rebuild --ignore-scripts=false)`,
          { cause: error },
        );
      }
    }
  }
}

/** A platform without links has no list. */
async function readLinks(file: string): Promise<readonly { source: string; target: string }[]> {
  try {
    const list: unknown = JSON.parse(await readFile(file, "utf8"));
    return Array.isArray(list) ? list.filter(isLink) : [];
  } catch (error) {
    if (hasCode(error, "ENOENT")) {
      return [];
    }
    throw error;
  }
}

function isLink(entry: unknown): entry is { source: string; target: string } {
  return (
    typeof entry === "object" &&
    entry !== null &&
    "source" in entry &&
    "target" in entry &&
    typeof entry.source === "string" &&
    typeof entry.target === "string"
  );
}

/** Leaves a file that is right alone: the folder may be read-only. */
async function makeExecutable(file: string): Promise<void> {
  const { mode } = await stat(file);
  if ((mode & 0o555) !== 0o555) {
    await chmod(file, mode | 0o555);
  }
}
