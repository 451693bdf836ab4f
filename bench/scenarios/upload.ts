/** Uploads of 256 MiB over HTTP and gRPC, against plain node:http that writes to a file and syncs it. */
import type { FigureSpec, Round, Scenario } from "../harness/measure.ts";
import type { Stage } from "../harness/stage.ts";
import { contentPath, makeLargeLease, measureTransfer, one, rawPath } from "../harness/transfer.ts";

const rawName = "plain upload";

export async function upload(stage: Stage): Promise<Scenario> {
  const leasehold = await stage.leasehold("main");
  const raw = await stage.raw();
  const uploadRaw = async (): Promise<Round> => {
    const measured = await measureTransfer(stage, raw, rawName, one("uploadOverHttp", rawPath));
    await stage.call(raw, one("deleteOverHttp", rawPath));
    return measured;
  };
  const uploadTo = async (name: string, operation: "uploadOverHttp" | "uploadOverGrpc"): Promise<Round> => {
    const leaseId = await makeLargeLease(stage, leasehold);
    const place = operation === "uploadOverHttp" ? contentPath(leaseId) : leaseId;
    const measured = await measureTransfer(stage, leasehold, name, one(operation, place));
    await stage.call(leasehold, one("deleteLease", leaseId));
    return measured;
  };
  return {
    legs: [
      uploadRaw,
      () => uploadTo("upload over HTTP", "uploadOverHttp"),
      () => uploadTo("upload over gRPC", "uploadOverGrpc"),
    ],
    figures: [
      figure("Upload of 256 MiB over HTTP", "upload over HTTP", 0.6),
      figure("Upload of 256 MiB over gRPC", "upload over gRPC", 0.35),
    ],
  };
}

function figure(title: string, subject: string, atLeast: number): FigureSpec {
  return { title, unit: "MiB/s", subject, baseline: rawName, atLeast };
}
