/** Owns where the embedded Postgres keeps its things: everything lies in `<data folder>/postgres`. */
import { chmod, mkdir, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hasCode } from "./has-code.ts";

/** The folder of one embedded Postgres and what is in it. */
export interface ClusterFolder {
  /** The real path, free of links: processes are recognised by it. */
  readonly home: string;
  /** What Postgres calls its data directory; there only once it is complete and on disk. */
  readonly data: string;
  /** Holds the Unix socket. */
  readonly sockets: string;
  /** The database password, mode 0600. */
  readonly password: string;
  /** What Postgres and its supervisor have to say. */
  readonly log: string;
}

/** Makes the folders that are missing and returns where everything lies. */
export async function openClusterFolder(dataDir: string): Promise<ClusterFolder> {
  await makeDataFolder(dataDir);
  const home = join(dataDir, "postgres");
  await makeDataFolder(home);
  return clusterFolder(await realpath(home));
}

/** Where everything lies in an existing folder, given by its real path. */
export function clusterFolder(home: string): ClusterFolder {
  return {
    home,
    data: join(home, "data"),
    sockets: join(home, "sockets"),
    password: join(home, "password"),
    log: join(home, "server.log"),
  };
}

/**
 * Makes a folder that only this user can list. Root's can be passed through by others, because Postgres then runs as
 * another user who has to reach its own folder inside; a folder of root's that is there already is opened as far as
 * that, and any other is left as it is.
 */
export async function makeDataFolder(folder: string): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  await mkdir(dirname(folder), { recursive: true });
  try {
    await mkdir(folder);
    // mkdir's own mode is cut by the umask.
    await chmod(folder, isRoot ? 0o711 : 0o700);
  } catch (error) {
    if (!hasCode(error, "EEXIST")) {
      throw error;
    }
    const found = await stat(folder);
    if (!found.isDirectory()) {
      throw error;
    }
    const { uid, mode } = found;
    if (isRoot && uid === 0 && (mode & 0o001) === 0) {
      await chmod(folder, (mode & 0o7777) | 0o001);
    }
  }
}
