/** Owns the operator's token: the one that is set, or one that is made on first start and kept. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Config } from "../config/settings.ts";
import { adminTokenFile } from "./data-files.ts";
import { ensureSecretFile } from "./secret-file.ts";

/** The token that AdminService asks for. */
export async function adminTokenOf(config: Config): Promise<string> {
  return (
    config.adminToken ??
    (await ensureSecretFile(
      join(config.dataDir, adminTokenFile),
      () => `lh_admin_${randomBytes(32).toString("base64url")}`,
    ))
  );
}
