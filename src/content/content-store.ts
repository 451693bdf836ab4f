/** What a store of sealed bytes must do, whatever it keeps them in. */

/**
 * Moves sealed chunks and knows no key. A lease's chunks lie in segments; each writer has a segment of its own, named by
 * lease and generation, so nobody writes where another one has written. Database rows say how many chunks of which
 * segment count; whatever else is in a store counts for nothing.
 */
export interface ContentStore {
  /**
   * Makes the segment of this generation. Rejects when it exists: a generation has one writer, ever. Commit the row that
   * says this generation is being written before, so that there is no file without a row.
   */
  createSegment(leaseId: string, generation: number): Promise<SegmentWriter>;

  /** Rejects with ContentCorruptError MISSING when there is no such segment. */
  openSegment(leaseId: string, generation: number): Promise<SegmentReader>;

  /**
   * Removes everything of these leases, durably. What is gone already is fine, so a run that was cut short is repeated.
   */
  destroyLeases(leaseIds: readonly string[]): Promise<void>;

  /**
   * Removes the segments of a lease from generations before this one, which no row counts on any more. Later ones stay:
   * their writers may be at work.
   */
  removeEarlierSegments(leaseId: string, generation: number): Promise<void>;

  /** Removes one segment, durably. One that is gone already is fine. */
  removeSegment(leaseId: string, generation: number): Promise<void>;

  /**
   * The leases that have content here to which no segment was added since `unchangedSince`. Those of them for which no
   * row says that anything is stored are what a crash or a late writer left: destroy them.
   */
  listLeaseIds(unchangedSince: Date): AsyncIterable<string>;
}

/** Writes one segment from its start to its end. One call at a time. */
export interface SegmentWriter {
  /**
   * Adds whole sealed chunks. After a rejection the segment is as long as before, as far as anybody may count on it, and
   * what was appended before can still be synced. Rejects with LeaseholdError DISK_FULL when there is no room.
   */
  append(sealedChunks: Uint8Array): Promise<void>;

  /**
   * Resolves when all that was appended survives a power failure, the segment's name included. After a rejection it
   * rejects for ever: the system may have dropped the bytes it could not write, and would report the next try as fine.
   */
  sync(): Promise<void>;

  /** Ends the writer and leaves the segment. */
  close(): Promise<void>;

  /**
   * Ends the writer and gives back the room behind the first `keepChunks` chunks; with 0 the segment goes. Keep at least
   * what a committed row, or one whose commit is in doubt, counts on.
   */
  discard(keepChunks: number): Promise<void>;
}

/** Reads one segment at any place. */
export interface SegmentReader {
  /**
   * Fills the front of `target` with `count` sealed chunks from the chunk at `firstIndex` of the segment, and returns
   * that part of it. Rejects with ContentCorruptError TRUNCATED when the segment is shorter.
   */
  read(firstIndex: number, count: number, target: Buffer): Promise<Buffer>;

  close(): Promise<void>;
}
