/** Owns the first start: making the files of a new database cluster and its password. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chown, link, mkdir, open, readdir, readFile, rename, rm, unlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { ClusterFolder } from "./cluster-folder.ts";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { hasCode } from "./has-code.ts";
import { databaseRole } from "./listen-place.ts";
import type { PostgresPrograms } from "./postgres-programs.ts";
import { findProcess } from "./process-table.ts";
import type { ServerUser } from "./server-user.ts";

const majorVersion = "18";
const unfinishedName = /^data\.(\d+)\.unfinished$/;

/**
 * Makes the cluster unless it is there. Returns whether it made one.
 *
 * The files are made beside their place and renamed into it when all are on disk, so a crash never leaves half a
 * cluster. initdb is left to sync them itself: `--no-sync` with one sync afterwards took as long (0.46 s for both), and
 * syncfs waits for everybody else's writes on a shared disk.
 */
export async function makeCluster(
  folder: ClusterFolder,
  user: ServerUser | undefined,
  programs: PostgresPrograms,
): Promise<boolean> {
  await removeUnfinished(folder);
  const version = await readIfThere(join(folder.data, "PG_VERSION"));
  if (version !== undefined) {
    if (version.trim() !== majorVersion) {
      throw new EmbeddedPostgresError(
        `${folder.data} was made by Postgres ${version.trim()}, this is ${majorVersion}: dump it there and restore it here`,
      );
    }
    return false;
  }
  await makePassword(folder, user);
  const unfinished = join(folder.home, `data.${process.pid}.unfinished`);
  await mkdir(unfinished, { mode: 0o700 });
  await giveTo(user, unfinished);
  await initialise(unfinished, folder, user, programs);
  try {
    await rename(unfinished, folder.data);
  } catch (error) {
    // A start at the same time was faster; that it holds the folder is found when this one wants to listen.
    if (!hasCode(error, "ENOTEMPTY", "EEXIST")) {
      throw error;
    }
    await rm(unfinished, { recursive: true });
    return false;
  }
  await sync(folder.home);
  return true;
}

/** Reads the password made with the cluster. */
export async function readPassword(folder: ClusterFolder): Promise<string> {
  const password = await readIfThere(folder.password);
  if (password === undefined) {
    throw new EmbeddedPostgresError(`${folder.password} is missing: restore it together with ${folder.data}`);
  }
  return password.trim();
}

/** Hands a file or folder that root has made to the user Postgres runs as. */
export async function giveTo(user: ServerUser | undefined, path: string): Promise<void> {
  if (user !== undefined) {
    await chown(path, user.uid, user.gid);
  }
}

async function initialise(
  unfinished: string,
  folder: ClusterFolder,
  user: ServerUser | undefined,
  programs: PostgresPrograms,
): Promise<void> {
  const words = [
    `--pgdata=${unfinished}`,
    `--username=${databaseRole}`,
    `--pwfile=${folder.password}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    // Postgres brings this locale's rules itself: an upgrade of the system cannot change the order of an index.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
  ];
  try {
    await promisify(execFile)(programs.initdb, words, { ...user, cwd: "/", env: { TZ: "UTC", LC_ALL: "C" } });
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr) : String(error);
    const line = said.split("\n").find((text) => text.includes("error:") || text.includes("FATAL:")) ?? said.trim();
    await rm(unfinished, { recursive: true, force: true });
    throw new EmbeddedPostgresError(`Cannot make a database in ${folder.home}: ${line.split("\n")[0]}`, {
      cause: error,
    });
  }
}

/** Made by link, so that two starts at once share one password, and a crash leaves none or a whole one. */
async function makePassword(folder: ClusterFolder, user: ServerUser | undefined): Promise<void> {
  const unfinished = join(folder.home, `password.${process.pid}`);
  const file = await open(unfinished, "w", 0o600);
  try {
    await file.writeFile(`${randomBytes(32).toString("base64url")}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await giveTo(user, unfinished);
  try {
    await link(unfinished, folder.password);
  } catch (error) {
    if (!hasCode(error, "EEXIST")) {
      throw error;
    }
  } finally {
    await unlink(unfinished);
  }
  await sync(folder.home);
}

/** What a start that was killed half way has left. */
async function removeUnfinished(folder: ClusterFolder): Promise<void> {
  for (const name of await readdir(folder.home)) {
    const [, pid] = unfinishedName.exec(name) ?? [];
    if (pid === undefined) {
      continue;
    }
    const maker = await findProcess(Number(pid));
    if (maker === undefined || !maker.command.includes(folder.home)) {
      await rm(join(folder.home, name), { recursive: true, force: true });
    }
  }
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) {
      return undefined;
    }
    throw error;
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
