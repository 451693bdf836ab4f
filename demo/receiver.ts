/** The second agent, without an account: looks at a token, takes what it stands for over a network that breaks, confirms. */

import { startProgress } from "../src/cli/progress-bar.ts";
import { showBytes } from "../src/cli/show-values.ts";
import { connect } from "../src/client/connection.ts";
import { PartFile } from "../src/client/part-file.ts";
import { confirmClaim, downloadClaim } from "../src/client/resumable-download.ts";
import { require, say } from "./output.ts";

const [url = "", claimToken = "", target = ""] = process.argv.slice(2);
const connection = connect({ url });

const looks = [];
for (let look = 0; look < 3; look++) {
  looks.push(await connection.handoffs.inspectHandoff({ claimToken }));
}
const inspected = looks.at(-1);
const item = inspected?.items[0];
if (inspected?.handoff === undefined || item === undefined) {
  throw new Error("InspectHandoff showed nothing");
}
say(`  looked three times: ${item.name}, ${showBytes(inspected.contentBytes)}, ${inspected.handoff.maxClaims} claim`);
require(inspected.handoff.openClaims + inspected.handoff.usedClaims === 0, "looking consumed nothing");

const file = await PartFile.open(`${target}.part`);
const bar = startProgress("downloading", inspected.contentBytes, !process.stderr.isTTY);
let broken = false;
let receivedBytes = 0n;
const claimId = await downloadClaim({
  connection,
  token: claimToken,
  file,
  contentBytes: inspected.contentBytes,
  sha256: item.sha256,
  onProgress(bytes) {
    if (broken) {
      broken = false;
      say(`  ... and went on from ${showBytes(bytes)}`);
    }
    receivedBytes = bytes;
    bar.update(bytes);
  },
  onRetry() {
    broken = true;
    say(`  the connection broke with ${showBytes(receivedBytes)} received`);
  },
});
bar.stop();
await file.complete(target, { replace: false });
say(`  received, and verified by SHA-256: ${Buffer.from(item.sha256).toString("hex")}`);
const leaseEnded = await confirmClaim({ connection }, claimToken, claimId);
require(leaseEnded, "confirming the last claim ended the lease");
