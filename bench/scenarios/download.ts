/** Downloads of 256 MiB over HTTP, against plain node:http that reads a file. */
import type { Scenario } from "../harness/measure.ts";
import type { Stage } from "../harness/stage.ts";
import { contentPath, makeLargeLease, measureTransfer, one, rawPath } from "../harness/transfer.ts";

export async function download(stage: Stage): Promise<Scenario> {
  const leasehold = await stage.leasehold("main");
  const raw = await stage.raw();
  const path = contentPath(await makeLargeLease(stage, leasehold));
  for (const [server, place] of [
    [leasehold, path],
    [raw, rawPath],
  ] as const) {
    await stage.call(server, one("uploadOverHttp", place));
    await stage.call(server, one("verifyOverHttp", place));
  }
  return {
    legs: [
      () => measureTransfer(stage, raw, "plain download", one("downloadOverHttp", rawPath)),
      () => measureTransfer(stage, leasehold, "download over HTTP", one("downloadOverHttp", path)),
    ],
    figures: [
      {
        title: "Download of 256 MiB over HTTP",
        unit: "MiB/s",
        subject: "download over HTTP",
        baseline: "plain download",
        atLeast: 0.5,
      },
    ],
  };
}
