/** A worker: takes one part of a file after the other, and counts its line feeds, beside others that it knows nothing of. */
import { open } from "node:fs/promises";
import { connect } from "../src/client/connection.ts";

const partBytes = 8 * 1024 * 1024;

const [url = "", apiKey = "", leaseId = "", name = "", file = ""] = process.argv.slice(2);
const { scratchpads } = connect({ url, bearer: apiKey });

const source = await open(file);
const buffer = Buffer.alloc(partBytes);
for (;;) {
  const { value: part } = await scratchpads.incrementEntry({ leaseId, key: "parts", requestId: crypto.randomUUID() });
  const { bytesRead } = await source.read(buffer, 0, partBytes, Number(part - 1n) * partBytes);
  if (bytesRead === 0) {
    break;
  }
  const lines = buffer.subarray(0, bytesRead).reduce((count, byte) => (byte === 0x0a ? count + 1 : count), 0);
  await scratchpads.incrementEntry({ leaseId, key: "lines", delta: BigInt(lines), requestId: crypto.randomUUID() });
  const line = Buffer.from(`${part} ${name}\n`);
  await scratchpads.appendToEntry({ leaseId, key: "log", value: line, requestId: crypto.randomUUID() });
}
await source.close();
