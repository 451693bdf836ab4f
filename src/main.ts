/** Where the command line starts. */
import { readFileSync } from "node:fs";
import { run } from "./cli/program.ts";

const packageFile = new URL("../package.json", import.meta.url);
const { version }: { version: string } = JSON.parse(readFileSync(packageFile, "utf8"));
await run(process.argv.slice(2), version);
