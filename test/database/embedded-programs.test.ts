/** Tests that Postgres's programs run although npm was told to run no install scripts. */
import { chmod, mkdir, readlink, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findPostgresPrograms, makeReadyToRun } from "../../src/database/embedded/postgres-programs.ts";
import { makeDataDir } from "./embedded-folder.ts";

test("the libraries' links and the right to execute are put back, and what is there is left alone", async () => {
  const native = join(await makeDataDir(), "native");
  await mkdir(join(native, "bin"), { recursive: true });
  await mkdir(join(native, "lib"));
  for (const name of ["bin/initdb", "bin/postgres", "lib/libword.so.1.2"]) {
    await writeFile(join(native, name), "");
  }
  await chmod(join(native, "bin", "postgres"), 0o644);
  const links = [
    { source: "native/lib/libword.so.1.2", target: "native/lib/libword.so.1" },
    { source: "native/lib/libword.so.1.2", target: "native/lib/libword.so" },
  ];
  await writeFile(join(native, "pg-symlinks.json"), JSON.stringify(links));

  for (const _round of ["missing", "there"]) {
    const programs = await makeReadyToRun(native);
    expect((await stat(programs.postgres)).mode & 0o777).toBe(0o755);
    expect(await readlink(join(native, "lib", "libword.so.1"))).toBe("libword.so.1.2");
    expect(await readlink(join(native, "lib", "libword.so"))).toBe("libword.so.1.2");
  }
});

test("this machine's programs are found", async () => {
  const programs = await findPostgresPrograms();
  for (const program of [programs.initdb, programs.postgres]) {
    expect((await stat(program)).mode & 0o111).toBe(0o111);
  }
});
