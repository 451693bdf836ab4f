/** Tests what is made of a server that does not start. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openClusterFolder } from "../../src/database/embedded/cluster-folder.ts";
import { startPostmaster } from "../../src/database/embedded/postmaster.ts";
import { makeDataDir } from "./embedded-folder.ts";

test("the reason given is that server's own, whatever processes of the one before log meanwhile", async () => {
  const folder = await openClusterFolder(await makeDataDir());
  await writeFile(folder.log, "2026-01-01 [1] FATAL:  an older story\n");
  // In the place of Postgres, so that the lines come in the order that is hard to hit.
  const program = join(folder.home, "program");
  const script = [
    "#!/bin/sh",
    `echo "2026-01-01 [$$] FATAL:  pre-existing shared memory block is still in use" >> "${folder.log}"`,
    `echo "2026-01-01 [2] FATAL:  terminating connection due to unexpected postmaster exit" >> "${folder.log}"`,
    "exit 1",
  ];
  await writeFile(program, script.join("\n"), { mode: 0o755 });
  const programs = { initdb: program, postgres: program };
  const postmaster = await startPostmaster(folder, { port: 1 }, undefined, programs);
  await expect(postmaster.ready).rejects.toMatchObject({
    name: "EmbeddedPostgresError",
    message: `Postgres did not start (exit code 1): pre-existing shared memory block is still in use (${folder.log})`,
  });
});
