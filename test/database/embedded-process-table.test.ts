/** Tests that processes are seen alike through /proc and through `ps`, which other systems have instead. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { findProcess, findWithPs, isTaken, waitUntilGone } from "../../src/database/embedded/process-table.ts";

const hasPs = spawnSync("ps").error === undefined;
const readers = hasPs
  ? ([
      ["this system's way", findProcess],
      ["ps", findWithPs],
    ] as const)
  : ([["this system's way", findProcess]] as const);

test.for(readers)("a running process has its parent and its words (%s)", async ([, find]) => {
  const child = spawn("sleep", ["600.5"], { stdio: "ignore" });
  onTestFinished(() => {
    child.kill();
  });
  await once(child, "spawn");
  expect(await find(child.pid ?? 0)).toMatchObject({ pid: child.pid, parentPid: process.pid, command: "sleep 600.5" });
});

test.for(readers)("a process that has ended is not found (%s)", async ([, find]) => {
  const child = spawn("true", { stdio: "ignore" });
  await once(child, "exit");
  expect(await find(child.pid ?? 0)).toBeUndefined();
});

test.for(readers)("a process whose end nobody has noted counts as ended (%s)", async ([, find]) => {
  // The shell starts `cat` and becomes `sleep`, which never asks how its children have ended.
  const script = "cat <&3 & echo $!; exec sleep 600.5 3<&-";
  const shell = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "ignore", "pipe"] });
  onTestFinished(() => {
    shell.kill();
  });
  const [line] = await once(shell.stdio[1] ?? shell, "data");
  await expect.poll(() => findProcess(shell.pid ?? 0), { timeout: 10_000 }).toMatchObject({ command: "sleep 600.5" });
  const zombie = Number.parseInt(String(line), 10);
  expect(await find(zombie)).toMatchObject({ command: "cat" });
  shell.stdio[3]?.destroy();
  await expect.poll(() => find(zombie), { timeout: 10_000 }).toBeUndefined();
  expect(isTaken(zombie)).toBe(true);
});

test("waiting for processes ends with the last of them, or returns those left at the limit", async () => {
  const brief = spawn("true", { stdio: "ignore" });
  const lasting = spawn("sleep", ["600"], { stdio: "ignore" });
  onTestFinished(() => {
    lasting.kill();
  });
  await once(brief, "exit");
  const pids = [brief.pid ?? 0, lasting.pid ?? 0];
  expect(await waitUntilGone(pids, 0)).toEqual([lasting.pid]);
  lasting.kill();
  expect(await waitUntilGone(pids, 30_000)).toEqual([]);
});
