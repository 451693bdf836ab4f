/** How far a process's memory rises while something is done, told by the kernel and not by looking now and then. */
import { readFileSync, writeFileSync } from "node:fs";

/** Whether the kernel keeps and resets a high-water mark for every process. */
export const canMeasurePeaks = process.platform === "linux";

/** By how many bytes the resident memory of a process rose at most above where it was at first. */
export async function memoryRise(pid: number, work: () => Promise<void>): Promise<number> {
  // See proc(5): 5 sets the peak back to what is resident now.
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
  const before = residentBytes(pid, "VmRSS");
  await work();
  return residentBytes(pid, "VmHWM") - before;
}

function residentBytes(pid: number, name: "VmRSS" | "VmHWM"): number {
  const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kibibytes) * 1024;
}
