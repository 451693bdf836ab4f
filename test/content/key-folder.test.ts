import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, linkSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { KeyFolder } from "../../src/content/key-folder.ts";
import { filesBelow, fillFileSystem, temporaryFolder, tinyFileSystem } from "./temporary-folder.ts";

const installationId = "0192f0c1-2a3b-7c4d-8e5f-001122334455";
const otherInstallationId = "0192f0c1-2a3b-7c4d-8e5f-ffffffffffff";
const epochLengthSeconds = 3600;

function open(dir: string, change: Partial<Parameters<typeof KeyFolder.open>[0]> = {}): Promise<KeyFolder> {
  return KeyFolder.open({ dir, installationId, epochLengthSeconds, createIfMissing: true, ...change });
}

function keysDir(): string {
  return join(temporaryFolder(), "data", "keys");
}

describe("making keys", () => {
  test("an epoch has one key, which every opening of the folder finds again", async () => {
    const dir = keysDir();
    const made = await (await open(dir)).epochKey(7200);
    const found = await (await open(dir, { createIfMissing: false })).epochKey(7200);
    expect(found).toEqual(made);
    expect(made.key.length).toBe(32);
    expect(await (await open(dir)).existingEpochKey(7200, made.keyId)).toEqual(made);
    expect((await (await open(dir)).epochKey(3600)).key.equals(made.key)).toBe(false);
  });

  test("folder and files are for their owner only, and name their kind, epoch and installation", async () => {
    const dir = keysDir();
    const folder = await open(dir);
    const { keyId } = await folder.epochKey(7200);
    await folder.serverKeys.latest();
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    expect(await filesBelow(dir)).toEqual(["epoch-7200.key", "installation", "server-1.key"]);
    for (const name of await filesBelow(dir)) {
      expect(statSync(join(dir, name)).mode & 0o777).toBe(0o600);
    }
    const stored: unknown = JSON.parse(readFileSync(join(dir, "epoch-7200.key"), "utf8"));
    const named = {
      format: 1,
      kind: "epoch",
      keyId,
      installationId,
      epochStartSeconds: 7200,
      epochLengthSeconds: 3600,
    };
    expect(stored).toMatchObject(named);
  });

  test("processes that race for a new folder and one epoch's key all get the same key", async () => {
    const dir = keysDir();
    const racers = Array.from({ length: 6 }, () => startRacer(dir, 7200));
    await Promise.all(racers.map((racer) => racer.ready));
    for (const racer of racers) {
      racer.go();
    }
    const keys = await Promise.all(racers.map((racer) => racer.key));
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toMatch(/^[0-9a-f-]{36} [0-9a-f]{64}$/);
    expect(await filesBelow(dir)).toEqual(["epoch-7200.key", "installation"]);
  });

  test("callers that race inside one process get the same key, each a copy of its own", async () => {
    const folder = await open(keysDir());
    const [one, ...others] = await Promise.all(Array.from({ length: 20 }, () => folder.epochKey(7200)));
    expect(new Set(others.map((other) => other.keyId))).toEqual(new Set([one?.keyId]));
    const before = others.map((other) => other.key.toString("hex"));
    one?.key.fill(0);
    expect(others.map((other) => other.key.toString("hex"))).toEqual(before);
    expect((await folder.epochKey(7200)).key.toString("hex")).toBe(before[0]);
  });

  test("what a crash left unfinished is ignored, cut or whole", async () => {
    const dir = keysDir();
    const folder = await open(dir);
    writeFileSync(join(dir, ".epoch-7200.key.0123456789abcdef.tmp"), '{"format": 1, "kind": "ep');
    writeFileSync(join(dir, ".server-9.key.0123456789abcdef.tmp"), "");
    const made = await folder.epochKey(7200);
    expect(await folder.listEpochs()).toEqual([7200]);
    expect((await folder.serverKeys.latest()).version).toBe(1);
    expect(await (await open(dir)).epochKey(7200)).toEqual(made);
  });

  test("an epoch starts on the grid only", async () => {
    const folder = await open(keysDir());
    for (const startSeconds of [1, 3601, -3600, 0.5, Number.NaN]) {
      await expect(folder.epochKey(startSeconds)).rejects.toThrow(RangeError);
    }
  });

  test("a full disk is DISK_FULL, and leaves no key that counts", async (context) => {
    const disk = tinyFileSystem(64 * 1024);
    if (disk === undefined) {
      context.skip("needs the right to mount");
      return;
    }
    const folder = await open(join(disk, "keys"));
    fillFileSystem(disk);
    await expect(folder.epochKey(7200)).rejects.toMatchObject({ name: "LeaseholdError", reason: "DISK_FULL" });
    expect(await filesBelow(join(disk, "keys"))).toEqual(["installation"]);
  });
});

describe("server keys", () => {
  test("the first start makes version 1, and a higher version is the latest from the next start on", async () => {
    const dir = keysDir();
    const first = await (await open(dir)).serverKeys.latest();
    expect(first.version).toBe(1);
    const second = { ...JSON.parse(readFileSync(join(dir, "server-1.key"), "utf8")), version: 2 };
    writeFileSync(join(dir, "server-2.key"), JSON.stringify(second));
    const folder = await open(dir);
    expect((await folder.serverKeys.latest()).version).toBe(2);
    expect(await folder.serverKeys.get(1)).toEqual(first);
  });

  test("a version that is not there is never made", async () => {
    const folder = await open(keysDir());
    await expect(folder.serverKeys.get(3)).rejects.toMatchObject({ reason: "KEY_MISSING" });
    await expect(folder.serverKeys.get(0)).rejects.toThrow(RangeError);
  });
});

describe("destroying keys", () => {
  test("a destroyed key is gone from the folder and from this process, and destroying it again is fine", async () => {
    const dir = keysDir();
    const folder = await open(dir);
    const { keyId } = await folder.epochKey(7200);
    await folder.epochKey(10_800);
    await folder.destroyEpoch(7200);
    await folder.destroyEpoch(7200);
    expect(await folder.listEpochs()).toEqual([10_800]);
    await expect(folder.existingEpochKey(7200, keyId)).rejects.toMatchObject({ reason: "KEY_MISSING" });
  });

  test("a second name that a crash left of the key goes with it", async () => {
    const dir = keysDir();
    const folder = await open(dir);
    await folder.epochKey(7200);
    await folder.epochKey(72_000);
    linkSync(join(dir, "epoch-7200.key"), join(dir, ".epoch-7200.key.0123456789abcdef.tmp"));
    linkSync(join(dir, "epoch-72000.key"), join(dir, ".epoch-72000.key.0123456789abcdef.tmp"));
    await folder.destroyEpoch(7200);
    const left = [".epoch-72000.key.0123456789abcdef.tmp", "epoch-72000.key", "installation"];
    expect(await filesBelow(dir)).toEqual(left);
  });

  test("epochs are listed in order of time", async () => {
    const folder = await open(keysDir());
    for (const startSeconds of [36_000, 7200, 0, 3600]) {
      await folder.epochKey(startSeconds);
    }
    expect(await folder.listEpochs()).toEqual([0, 3600, 7200, 36_000]);
  });
});

describe("opening a folder", () => {
  test("a missing folder is made only when that is asked for", async () => {
    const dir = keysDir();
    expect(await KeyFolder.installationIdOf(dir)).toBeUndefined();
    await expect(open(dir, { createIfMissing: false })).rejects.toMatchObject({ reason: "FOLDER_MISSING" });
    await open(dir);
    expect(await KeyFolder.installationIdOf(dir)).toBe(installationId);
    await open(dir, { createIfMissing: false });
  });

  test("an empty folder with an open mode becomes the key folder, for its owner only", async () => {
    const dir = keysDir();
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    await open(dir);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
  });

  test("a folder that holds other files is left as it is", async () => {
    const dir = keysDir();
    mkdirSync(dir, { recursive: true });
    chmodSync(dir, 0o755);
    writeFileSync(join(dir, "letter.txt"), "dear");
    await expect(open(dir)).rejects.toMatchObject({ reason: "FOLDER_FOREIGN" });
    expect(statSync(dir).mode & 0o777).toBe(0o755);
    expect(await filesBelow(dir)).toEqual(["letter.txt"]);
  });

  test("a foreign folder is refused, and so is a foreign key in the own folder", async () => {
    const dir = keysDir();
    const foreignDir = keysDir();
    await open(dir);
    await (await open(foreignDir, { installationId: otherInstallationId })).epochKey(7200);
    await expect(open(foreignDir)).rejects.toMatchObject({ name: "KeyFolderError", reason: "FOLDER_FOREIGN" });
    copyFileSync(join(foreignDir, "epoch-7200.key"), join(dir, "epoch-7200.key"));
    const folder = await open(dir);
    await expect(folder.epochKey(7200)).rejects.toMatchObject({ reason: "FOLDER_FOREIGN" });
  });

  test("a folder that others can enter is refused, in one line that tells what to do", async () => {
    const dir = keysDir();
    await open(dir);
    chmodSync(dir, 0o750);
    await expect(open(dir)).rejects.toMatchObject({
      reason: "FOLDER_EXPOSED",
      message: expect.stringMatching(/chmod 700/),
    });
  });

  test("another epoch length is refused", async () => {
    const dir = keysDir();
    await open(dir);
    await expect(open(dir, { epochLengthSeconds: 60 })).rejects.toMatchObject({ reason: "EPOCH_LENGTH_DIFFERS" });
  });

  test.each(["", "{", "null", "[]", '{"format":2}', '{"format":1,"kind":"epoch"}'])(
    "a key file that holds %j is refused",
    async (text) => {
      const dir = keysDir();
      const folder = await open(dir);
      writeFileSync(join(dir, "epoch-7200.key"), text);
      await expect(folder.epochKey(7200)).rejects.toMatchObject({ reason: "FILE_INVALID" });
    },
  );

  test("the key file of one epoch does not pass for another's", async () => {
    const dir = keysDir();
    const folder = await open(dir);
    await folder.epochKey(7200);
    copyFileSync(join(dir, "epoch-7200.key"), join(dir, "epoch-3600.key"));
    await expect(folder.epochKey(3600)).rejects.toMatchObject({ reason: "FILE_INVALID" });
  });
});

describe("verifying a folder against the database", () => {
  const nothingNeeded = { installationId, destroyedThroughSeconds: undefined, neededEpochs: [] };

  test("what fits is accepted: all needed keys are there and nothing is back", async () => {
    const folder = await open(keysDir());
    const { keyId } = await folder.epochKey(7200);
    await folder.verify(nothingNeeded);
    await folder.verify({
      installationId,
      destroyedThroughSeconds: 3600,
      neededEpochs: [{ startSeconds: 7200, keyId }],
    });
  });

  test("the folder of another installation's database is refused", async () => {
    const folder = await open(keysDir());
    const expected = { ...nothingNeeded, installationId: otherInstallationId };
    await expect(folder.verify(expected)).rejects.toMatchObject({ reason: "FOLDER_FOREIGN" });
  });

  test("a destroyed key that is back is refused, and named in one line", async () => {
    const dir = keysDir();
    const folder = await open(dir);
    await folder.epochKey(7200);
    for (const destroyedThroughSeconds of [7200, 10_800]) {
      const refused = folder.verify({ ...nothingNeeded, destroyedThroughSeconds });
      const message = expect.stringMatching(/^[^\n]*epoch-7200\.key[^\n]*$/);
      await expect(refused).rejects.toMatchObject({ name: "KeyFolderError", reason: "KEY_IS_BACK", message });
    }
  });

  test("a key that an unexpired lease needs and that is missing or another one is refused", async () => {
    const folder = await open(keysDir());
    const { keyId } = await folder.epochKey(7200);
    const missing = { ...nothingNeeded, neededEpochs: [{ startSeconds: 3600, keyId }] };
    const replaced = { ...nothingNeeded, neededEpochs: [{ startSeconds: 7200, keyId: otherInstallationId }] };
    await expect(folder.verify(missing)).rejects.toMatchObject({ reason: "KEY_MISSING" });
    await expect(folder.verify(replaced)).rejects.toMatchObject({ reason: "KEY_REPLACED" });
    expect(await folder.listEpochs()).toEqual([7200]);
  });

  test("after it, no key is made for an epoch whose key was destroyed", async () => {
    const folder = await open(keysDir());
    await folder.verify({ ...nothingNeeded, destroyedThroughSeconds: 7200 });
    await expect(folder.epochKey(7200)).rejects.toMatchObject({ reason: "EPOCH_DESTROYED" });
    await folder.epochKey(10_800);
    expect(await folder.listEpochs()).toEqual([10_800]);
  });
});

interface Racer {
  readonly ready: Promise<unknown>;
  readonly key: Promise<string>;
  go(): void;
}

/** A process that says it is ready, waits for a line, and then opens the folder and prints the epoch's key. */
function startRacer(dir: string, startSeconds: number): Racer {
  const program = `
    import { once } from "node:events";
    const { KeyFolder } = await import(${JSON.stringify(import.meta.resolve("../../src/content/key-folder.ts"))});
    process.stdout.write("ready\\n");
    await once(process.stdin, "data");
    process.stdin.destroy();
    const folder = await KeyFolder.open(${JSON.stringify({ dir, installationId, epochLengthSeconds, createIfMissing: true })});
    const { keyId, key } = await folder.epochKey(${startSeconds});
    process.stdout.write(keyId + " " + key.toString("hex"));
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let printed = "";
  child.stdout.on("data", (data) => {
    printed += data;
  });
  return {
    ready: once(child.stdout, "data"),
    key: once(child, "close").then(() => printed.replace("ready\n", "")),
    go: () => child.stdin.end("go\n"),
  };
}
