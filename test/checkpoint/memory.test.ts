/** Promise 8 for checkpoints: memory is bounded by what is under way, never by how large a body is. */
import { createHash } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { generatedPieces } from "../support/generated-bytes.ts";
import { canMeasurePeaks, memoryRise } from "../support/peak-memory.ts";
import { ServerProcess } from "../support/server-process.ts";
import { doors, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { type UploadInit, Workflows } from "./workflow.ts";

const bodyBytes = 200 * 1_048_576;
const pieceBytes = 1_048_576;
const mostRiseBytes = 100 * 1_048_576;

const leasehold = await TestLeasehold.start();
const process = await ServerProcess.start({
  databaseUrl: leasehold.databaseUrl,
  dataDir: leasehold.core.config.dataDir,
});
afterAll(() => process.kill());
const workflows = new Workflows(await Tenant.open(leasehold, 1_000_000_000n)).at(process);
const expectedSha256 = hashOf(generatedPieces(1, bodyBytes, pieceBytes));

function hashOf(pieces: Iterable<Uint8Array>): Buffer {
  const hash = createHash("sha256");
  for (const piece of pieces) {
    hash.update(piece);
  }
  return hash.digest();
}

function* messages(leaseId: string): Generator<UploadInit> {
  let offset = 0n;
  for (const piece of generatedPieces(1, bodyBytes, pieceBytes)) {
    yield { ...(offset === 0n ? { put: { leaseId } } : {}), offset, data: Buffer.from(piece) };
    offset += BigInt(piece.length);
  }
  yield { offset, finish: true, sha256: expectedSha256 };
}

test.runIf(canMeasurePeaks).each(doors)(
  "200 MiB up and down through the %s door each move with memory rising by less than 100 MiB, and come back exactly",
  { timeout: 120_000 },
  async (door) => {
    const { leaseId } = await workflows.begin({}, { sizeBytes: BigInt(bodyBytes) });
    const up = await memoryRise(process.pid, async () => {
      await workflows.upload(door, messages(leaseId));
    });
    expect(up).toBeLessThan(mostRiseBytes);
    const down = await memoryRise(process.pid, async () => {
      const hash = createHash("sha256");
      for await (const { data } of workflows.door(door).downloadCheckpoint({ leaseId })) {
        hash.update(data);
      }
      expect(hash.digest().equals(expectedSha256)).toBe(true);
    });
    expect(down).toBeLessThan(mostRiseBytes);
  },
);
