/** How far a watcher of a scratchpad has come, and what it still has to be told. */
import { LeaseholdError } from "../errors/leasehold-error.ts";

/** How many versions go by, none of them of interest to a watcher, before it is told of that. */
const quietVersions = 1_000n;
/** Behind every version. */
const lastVersion = 2n ** 63n - 1n;

/** How far one watcher has come. */
export class WatchPosition {
  /** Of the changes up to this version each was told that was its entry's last at the look that came to it. */
  lookedVersion: bigint;
  /** The scratchpad's version at the last look. Later than lookedVersion if that look found more than it told. */
  momentVersion: bigint;
  /** The version of which the watcher has everything. */
  wholeVersion: bigint;
  /** Deletions up to this version are not of interest: they were seen, or the watcher never heard of their entries. */
  deletionsVersion: bigint;
  /** Up to what the watcher was told that it has everything. Undefined: not yet, or it was told of changes since. */
  #toldVersion: bigint | undefined;

  /** Undefined starts with what there is; 0 with that and with deletions. */
  constructor(afterVersion: bigint | undefined) {
    this.lookedVersion = afterVersion ?? 0n;
    this.momentVersion = this.lookedVersion;
    this.wholeVersion = this.lookedVersion;
    this.deletionsVersion = afterVersion ?? lastVersion;
  }

  /** Whether more is there than was told. */
  get isBehind(): boolean {
    return this.lookedVersion < this.momentVersion;
  }

  /** Moves behind changes that a look found, in the order of versions: all of them if it is whole, or the first. */
  move(changes: readonly { readonly version: bigint }[], isWhole: boolean, padVersion: bigint): void {
    this.momentVersion = padVersion;
    this.lookedVersion = isWhole ? padVersion : (changes.at(-1)?.version ?? padVersion);
    this.wholeVersion = this.isBehind ? this.wholeVersion : padVersion;
    this.deletionsVersion = this.deletionsVersion === lastVersion ? padVersion : this.deletionsVersion;
    this.#toldVersion = changes.length > 0 ? undefined : this.#toldVersion;
  }

  /** The caught_up_version of a message that is sent now: 0 if the watcher is behind. */
  caughtUp(): bigint {
    if (this.isBehind) {
      return 0n;
    }
    this.#toldVersion = this.lookedVersion;
    return this.lookedVersion;
  }

  /** Whether the watcher is to be told how far it has come though nothing has changed for it. */
  isWorthTelling(): boolean {
    const { lookedVersion, isBehind } = this;
    return !isBehind && (this.#toldVersion === undefined || lookedVersion - this.#toldVersion >= quietVersions);
  }

  /**
   * @throws LeaseholdError VERSION_GONE if a deletion that the watcher should have been told is forgotten, or the
   * watcher has seen what the scratchpad has not, which was restored from a copy then.
   */
  requireRemembered(padVersion: bigint, forgottenVersion: bigint): void {
    const { lookedVersion, deletionsVersion } = this;
    if (lookedVersion > padVersion) {
      throw versionGone(`There is no version ${lookedVersion}`, { lookedVersion, padVersion, forgottenVersion });
    }
    if (forgottenVersion > lookedVersion && forgottenVersion > deletionsVersion) {
      const detail = `What was deleted behind version ${lookedVersion} is forgotten up to ${forgottenVersion}`;
      throw versionGone(detail, { lookedVersion, padVersion, forgottenVersion });
    }
  }
}

function versionGone(
  detail: string,
  versions: { lookedVersion: bigint; padVersion: bigint; forgottenVersion: bigint },
): LeaseholdError {
  return new LeaseholdError("VERSION_GONE", `${detail}: list the entries, and watch from there.`, {
    metadata: {
      version: `${versions.lookedVersion}`,
      oldest_version: `${versions.forgottenVersion}`,
      latest_version: `${versions.padVersion}`,
    },
  });
}
