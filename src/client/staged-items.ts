/** Owns a folder that the items of a claim are downloaded to: it carries another name until all of them are whole. */
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, truncate } from "node:fs/promises";
import { dirname, join } from "node:path";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { HandoffItem } from "#gen/leasehold/v1/handoff_pb.js";
import { CallError } from "./call-error.ts";
import { PartFile, syncFolder, TargetExistsError } from "./part-file.ts";

/** The file beside the items that says what is known of each: one JSON object a line, in order. */
const itemsFileName = "items.jsonl";

/** One item, as its line in the folder says. */
export interface StagedItem {
  readonly file: string;
  readonly name: string;
  readonly contentType: string;
  readonly bytes: string;
  readonly sha256: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly createTime: string;
}

/** The folder. What an earlier download has left in it counts: a claim delivers the same items each time. */
export class StagedItems {
  #path: string;
  #receivedBytes: bigint;
  readonly #items: Map<string, StagedItem>;
  #current: { readonly item: StagedItem; readonly file: PartFile } | undefined;

  private constructor(path: string, items: Map<string, StagedItem>, receivedBytes: bigint) {
    this.#path = path;
    this.#items = items;
    this.#receivedBytes = receivedBytes;
  }

  /** Opens the folder, or makes it. */
  static async open(path: string): Promise<StagedItems> {
    await mkdir(path, { recursive: true });
    const items = await readItems(join(path, itemsFileName));
    let receivedBytes = 0n;
    for (const name of await readdir(path)) {
      receivedBytes += name === itemsFileName ? 0n : (await stat(join(path, name), { bigint: true })).size;
    }
    return new StagedItems(path, items, receivedBytes);
  }

  /** How many bytes of all items together are here. They are the first ones, as items come one after the other. */
  get receivedBytes(): bigint {
    return this.#receivedBytes;
  }

  /** In order. */
  get items(): readonly StagedItem[] {
    return [...this.#items.values()];
  }

  /** What is appended from now on belongs to this item, under this file name. */
  async begin(item: HandoffItem, fileName: string): Promise<void> {
    await this.#settleCurrent();
    const known = this.#items.get(fileName);
    if (fileName === "" || fileName === itemsFileName || (known !== undefined && known.name !== item.name)) {
      throw new CallError("UNEXPLAINED", `The item ${JSON.stringify(item.name)} cannot have a file of its own`);
    }
    const staged = known ?? stagedOf(item, fileName);
    if (known === undefined) {
      await appendFile(join(this.#path, itemsFileName), `${JSON.stringify(staged)}\n`);
      this.#items.set(fileName, staged);
    }
    this.#current = { item: staged, file: await PartFile.open(join(this.#path, fileName)) };
  }

  async append(bytes: Uint8Array): Promise<void> {
    if (this.#current === undefined) {
      throw new CallError("UNEXPLAINED", "The server sent data before it said of what");
    }
    const { item, file } = this.#current;
    if (file.sizeBytes + BigInt(bytes.length) > BigInt(item.bytes)) {
      throw new CallError("UNEXPLAINED", `The server sent more than the ${item.bytes} bytes of ${item.file}`);
    }
    await file.append(bytes);
    this.#receivedBytes += BigInt(bytes.length);
  }

  /** Gives the folder another name, under which a later download finds it. */
  async moveTo(path: string): Promise<void> {
    await rename(this.#path, path);
    this.#path = path;
  }

  /**
   * Gives the folder its name, and returns when all of it is on disk.
   *
   * @throws TargetExistsError if something of that name is there, other than an empty folder; what was staged stays.
   */
  async complete(target: string): Promise<void> {
    await this.#settleCurrent();
    await syncFolder(this.#path);
    try {
      await rename(this.#path, target);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code === "ENOTEMPTY" || code === "EEXIST" || code === "ENOTDIR") {
        throw new TargetExistsError(`${target} exists`, { cause: error });
      }
      throw error;
    }
    await syncFolder(dirname(target));
  }

  /** Keeps what is there, for an attempt that goes on. */
  async close(): Promise<void> {
    await this.#current?.file.close();
    this.#current = undefined;
  }

  /** Keeps what is there for a later download; of nothing, not the folder either. */
  async leave(): Promise<void> {
    await this.close();
    if (this.#items.size === 0) {
      await rm(this.#path, { recursive: true, force: true });
    }
  }

  /** An item that ends is checked, if its checksum is known, and on disk. */
  async #settleCurrent(): Promise<void> {
    const current = this.#current;
    if (current === undefined) {
      return;
    }
    const { item, file } = current;
    if (file.sizeBytes < BigInt(item.bytes)) {
      throw new CallError("UNEXPLAINED", `The server sent ${file.sizeBytes} bytes of ${item.file}, not ${item.bytes}`);
    }
    if (item.sha256 !== "" && (await file.digest()).toString("hex") !== item.sha256) {
      // It is the last one that is here, so that the folder still has the first bytes of all.
      this.#receivedBytes -= file.sizeBytes;
      await file.truncate(0n);
      throw new CallError("CHECKSUM_MISMATCH", `${file.path} does not have the item's SHA-256: claim it again.`, {
        code: "data_loss",
        metadata: { field: "sha256" },
      });
    }
    await file.settle();
    this.#current = undefined;
  }
}

/** A line that was cut by a crash is left out: its item comes again. */
async function readItems(path: string): Promise<Map<string, StagedItem>> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      return "";
    }
    throw error;
  });
  const lines = text.slice(0, text.lastIndexOf("\n") + 1);
  if (lines.length < text.length) {
    await truncate(path, Buffer.byteLength(lines));
  }
  const items = lines
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as StagedItem);
  return new Map(items.map((item) => [item.file, item]));
}

function stagedOf(item: HandoffItem, file: string): StagedItem {
  return {
    file,
    name: item.name,
    contentType: item.contentType,
    bytes: `${item.sizeBytes}`,
    sha256: Buffer.from(item.sha256).toString("hex"),
    attributes: item.attributes,
    createTime: item.createTime === undefined ? "" : timestampDate(item.createTime).toISOString(),
  };
}
