/** The demo's agents: each runs in a process of its own, and says over its channel what it has come to. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL(".", import.meta.url));

/** Starts an agent. What it prints is printed. */
export function startAgent(script: string, args: readonly string[]): ChildProcess {
  const agent = spawn(process.execPath, [join(folder, script), ...args], {
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  agent.stdout?.on("data", (text: Buffer) => process.stdout.write(text));
  return agent;
}

/** Runs an agent to its end. Gives the last thing it said, if it said any. */
export async function runAgent<Told>(script: string, args: readonly string[]): Promise<Told | undefined> {
  const agent = startAgent(script, args);
  let told: Told | undefined;
  agent.on("message", (message) => {
    told = message as Told;
  });
  const [code] = (await once(agent, "close")) as [number | null];
  if (code !== 0) {
    throw new Error(`${script} ended with ${code}`);
  }
  return told;
}
