#!/usr/bin/env node
// Starts the command line, under the Node that comes with the package where the caller's own is too old. Plain
// JavaScript of old: this file has to run on whatever Node there is.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const packageFolder = dirname(dirname(fileURLToPath(import.meta.url)));
// The published package has what was built; a checkout has the sources, which run as they are and are never stale.
const source = join(packageFolder, "src", "main.ts");
const main = existsSync(source) ? source : join(packageFolder, "dist", "main.js");
const wanted = JSON.parse(readFileSync(join(packageFolder, "package.json"), "utf8")).engines.node.replace(/^>=/, "");

if (isAtLeast(process.versions.node, wanted)) {
  await import(main);
} else {
  const bundled = findBundledNode();
  if (bundled === undefined) {
    console.error(
      `leasehold needs Node ${wanted} or newer and this is ${process.versions.node}; the Node it brings is not there, ` +
        "as npm was told not to run the install script of the package `node`. Allow that, or use a newer Node.",
    );
    process.exitCode = 1;
  } else {
    runWith(bundled);
  }
}

function isAtLeast(version, minimum) {
  const [have, need] = [version, minimum].map((text) => text.split(".").map(Number));
  const index = need.findIndex((part, position) => part !== have[position]);
  return index === -1 || have[index] > need[index];
}

/** The binary that the package `node` installed beside or above this one. */
function findBundledNode() {
  const folders = createRequire(import.meta.url).resolve.paths("node-binary") || [];
  return folders.map((folder) => join(folder, "node", "bin", "node")).find((path) => existsSync(path));
}

/** Runs the command line as a child that stands for this process: same streams, signals passed on, same end. */
function runWith(node) {
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: "inherit" });
  // A terminal sends its Ctrl-C to the child as well: passing it on would count it twice.
  process.on("SIGINT", () => process.stdin.isTTY || child.kill("SIGINT"));
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  process.on("SIGHUP", () => child.kill("SIGHUP"));
  child.on("error", (error) => {
    console.error(`leasehold could not start ${node}: ${error.message}`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    if (signal === null) {
      process.exitCode = code;
    } else {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    }
  });
}
