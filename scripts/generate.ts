// Generates gen/ from proto/ and from the schemas that npm packages carry. `--output FOLDER` writes elsewhere.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { printProto } from "./print-proto.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Where buf.yaml looks for the schemas that proto/ imports or the server serves. Ignored by git. */
const dependencyFolder = join(root, ".proto-deps");

/** Schemas that packages carry as source: where buf is to find each, and where it is from a package's main file. */
const packagedSchemas: Readonly<Record<string, URL>> = {
  "google/api/field_behavior.proto": fromGax("google/api/field_behavior.proto"),
  "google/rpc/error_details.proto": fromGax("google/rpc/error_details.proto"),
  "google/rpc/status.proto": fromGax("google/rpc/status.proto"),
  "grpc/health/v1/health.proto": new URL(
    "../../proto/health/v1/health.proto",
    import.meta.resolve("grpc-health-check"),
  ),
  "grpc/reflection/v1/reflection.proto": fromReflection("grpc/reflection/v1/reflection.proto"),
  "grpc/reflection/v1alpha/reflection.proto": fromReflection("grpc/reflection/v1alpha/reflection.proto"),
};

export function generate(outputFolder: string): void {
  collectDependencies();
  const buf = join(root, "node_modules", ".bin", "buf");
  const { status, error } = spawnSync(buf, ["generate", "--output", outputFolder], { cwd: root, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) throw new Error(`buf generate ended with status ${status}`);
}

/** Fills .proto-deps afresh, so that `buf` needs no registry. */
function collectDependencies(): void {
  rmSync(dependencyFolder, { recursive: true, force: true });
  for (const [target, source] of Object.entries(packagedSchemas)) {
    copyFileSync(source, dependencyPath(target));
  }
  writeFileSync(dependencyPath("buf/validate/validate.proto"), printProto(file_buf_validate_validate.proto));
}

function fromGax(path: string): URL {
  return new URL(`../protos/${path}`, import.meta.resolve("google-gax"));
}

function fromReflection(path: string): URL {
  return new URL(`../proto/${path}`, import.meta.resolve("@grpc/reflection"));
}

function dependencyPath(target: string): string {
  const path = join(dependencyFolder, target);
  mkdirSync(dirname(path), { recursive: true });
  return path;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { output: { type: "string", default: root } } });
  generate(values.output);
}
