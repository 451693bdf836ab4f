/** Owns who Postgres runs as: it refuses root, so root lends it another user. */
import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import type { ClusterFolder } from "./cluster-folder.ts";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { hasCode } from "./has-code.ts";
import type { PostgresPrograms } from "./postgres-programs.ts";

/** Whom to start a program as. */
export interface ServerUser {
  readonly uid: number;
  readonly gid: number;
}

const run = promisify(execFile);
const userName = "postgres";

/**
 * Returns undefined when Postgres runs as this process's own user. Under root it is the owner of a data folder that is
 * there already, so that whoever made it can go on using it, else the user `postgres`, made if it is missing.
 */
export async function chooseServerUser(folder: ClusterFolder): Promise<ServerUser | undefined> {
  const ownUid = process.getuid?.();
  const owner = await ownerOf(folder.data);
  if (ownUid !== 0) {
    if (owner !== undefined && owner.uid !== ownUid) {
      throw new EmbeddedPostgresError(
        `${folder.data} belongs to another user (uid ${owner.uid}): start as that user, or set LEASEHOLD_DATA_DIR`,
      );
    }
    return undefined;
  }
  return owner !== undefined && owner.uid !== 0 ? owner : ((await lookUp()) ?? (await makeUser()));
}

/** Throws, naming the folder in the way, when the user cannot reach the programs or the data. */
export async function checkReach(
  user: ServerUser | undefined,
  programs: PostgresPrograms,
  folder: ClusterFolder,
): Promise<void> {
  await runAs(user, programs.postgres, ["--version"]).catch(async (error: unknown) => {
    throw await unreachable(user, programs.postgres, "install Leasehold where that user can reach it", error);
  });
  await runAs(user, "/bin/sh", ["-c", 'cd "$1"', "sh", folder.home]).catch(async (error: unknown) => {
    throw await unreachable(user, folder.home, "set LEASEHOLD_DATA_DIR to a folder that user can reach", error);
  });
}

async function runAs(user: ServerUser | undefined, program: string, words: readonly string[]): Promise<void> {
  await run(program, words, { ...user, cwd: "/", env: {} });
}

async function unreachable(
  user: ServerUser | undefined,
  path: string,
  remedy: string,
  cause: unknown,
): Promise<EmbeddedPostgresError> {
  const obstacle = user && (await firstClosedFolder(user, path));
  if (obstacle === undefined) {
    const said = cause instanceof Error ? cause.message.trim().replaceAll(/\s*\n\s*/g, "; ") : String(cause);
    return new EmbeddedPostgresError(`Cannot run the embedded Postgres (${said}): set DATABASE_URL to another`, {
      cause,
    });
  }
  return new EmbeddedPostgresError(
    `Postgres runs as user ${userName} (uid ${user?.uid}), who cannot enter ${obstacle}: ` +
      `${remedy}, or start as a plain user`,
    { cause },
  );
}

/** Looks from the root of the file system downwards. */
async function firstClosedFolder(user: ServerUser, path: string): Promise<string | undefined> {
  const parent = dirname(path);
  const above = parent === path ? undefined : await firstClosedFolder(user, parent);
  if (above !== undefined) {
    return above;
  }
  const { uid, gid, mode } = await stat(path);
  const mayEnter = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
  return (mode & mayEnter) === 0 ? path : undefined;
}

async function ownerOf(path: string): Promise<ServerUser | undefined> {
  try {
    const { uid, gid } = await stat(path);
    return { uid, gid };
  } catch (error) {
    if (hasCode(error, "ENOENT")) {
      return undefined;
    }
    throw error;
  }
}

async function lookUp(): Promise<ServerUser | undefined> {
  try {
    const [uid, gid] = await Promise.all([run("id", ["-u", userName]), run("id", ["-g", userName])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch (error) {
    // `id` exits with 1 for a user who does not exist.
    if (error instanceof Error && "code" in error && error.code === 1) {
      return undefined;
    }
    throw error;
  }
}

async function makeUser(): Promise<ServerUser> {
  const failure: unknown = await addUser().catch((error: unknown) => error);
  // Another start may have made the user meanwhile, so the look-up decides.
  const user = await lookUp();
  if (user === undefined) {
    throw new EmbeddedPostgresError(
      `Postgres refuses to run as root and the user ${userName} could not be made: make it, or start as a plain user`,
      { cause: failure },
    );
  }
  return user;
}

async function addUser(): Promise<void> {
  await run("groupadd", ["--system", "--force", userName]);
  await run("useradd", ["--system", "--gid", userName, "--home-dir", "/", "--shell", "/bin/false", userName]);
}
