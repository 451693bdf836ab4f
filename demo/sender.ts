/** The first agent: leases room for a file, uploads it over a network that breaks, issues a token, and is gone. */
import { basename } from "node:path";
import { startProgress } from "../src/cli/progress-bar.ts";
import { showBytes } from "../src/cli/show-values.ts";
import { connect } from "../src/client/connection.ts";
import { fileSource } from "../src/client/file-source.ts";
import { uploadResumably } from "../src/client/resumable-upload.ts";
import { say } from "./output.ts";

const [url = "", apiKey = "", file = ""] = process.argv.slice(2);
const connection = connect({ url, bearer: apiKey });
const source = await fileSource(file);

const { lease } = await connection.leases.createLease({
  requestId: crypto.randomUUID(),
  sizeBytes: source.sizeBytes,
  duration: { seconds: 86_400n },
  variant: { case: "storage", value: { fileName: basename(file), contentType: "application/octet-stream" } },
});
if (lease === undefined) {
  throw new Error("CreateLease gave no lease");
}
say(`  leased ${showBytes(source.sizeBytes)} for a day, for ${lease.priceMicros} micro-dollars: ${lease.leaseId}`);

const bar = startProgress("uploading", source.sizeBytes, !process.stderr.isTTY);
let sentBytes = 0n;
let broken = false;
const active = await uploadResumably({
  connection,
  lease,
  source,
  onProgress(bytes) {
    if (broken) {
      broken = false;
      say(`  ... and went on from the ${showBytes(bytes)} that were stored`);
    }
    sentBytes = bytes;
    bar.update(bytes);
  },
  onRetry() {
    broken = true;
    say(`  the connection broke with ${showBytes(sentBytes)} sent`);
  },
});
bar.stop();
say(`  uploaded, and verified by SHA-256: the lease is ${active.activeTime === undefined ? "not active" : "active"}`);

const { claimToken } = await connection.handoffs.issueHandoff({
  leaseId: lease.leaseId,
  maxClaims: 1,
  deleteOnClaim: true,
});
process.send?.({ leaseId: lease.leaseId, claimToken });
process.disconnect?.();
