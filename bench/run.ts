/** `npm run bench`: measures what the product promises of its speed against what the same machine can do at best. */
import { mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { machineFacts } from "./harness/machine.ts";
import { type Figure, runScenario, type Scenario } from "./harness/measure.ts";
import { type Findings, toJson, toMarkdown, toText } from "./harness/report.ts";
import { Stage } from "./harness/stage.ts";
import { claimHandoff } from "./scenarios/claim-handoff.ts";
import { createLease } from "./scenarios/create-lease.ts";
import { download } from "./scenarios/download.ts";
import { dropMessage } from "./scenarios/drop-message.ts";
import { fireCrons } from "./scenarios/fire-crons.ts";
import { getCheckpoint } from "./scenarios/get-checkpoint.ts";
import { getEntry } from "./scenarios/get-entry.ts";
import { getLease } from "./scenarios/get-lease.ts";
import { leaseCount } from "./scenarios/lease-count.ts";
import { oneCaller } from "./scenarios/one-caller.ts";
import { putCheckpoint } from "./scenarios/put-checkpoint.ts";
import { receiveMessages } from "./scenarios/receive-messages.ts";
import { setEntry } from "./scenarios/set-entry.ts";
import { upload } from "./scenarios/upload.ts";
import { wakeReceiver } from "./scenarios/wake-receiver.ts";

const scenarios: Readonly<Record<string, (stage: Stage) => Promise<Scenario>>> = {
  create: createLease,
  get: getLease,
  claim: claimHandoff,
  upload,
  download,
  drop: dropMessage,
  receive: receiveMessages,
  wake: wakeReceiver,
  put: putCheckpoint,
  checkpoint: getCheckpoint,
  set: setEntry,
  entry: getEntry,
  one: oneCaller,
  cron: fireCrons,
  count: leaseCount,
};

const help = `npm run bench -- [options]

  --only NAMES    some of ${Object.keys(scenarios).join(",")}; all if it is not given
  --rounds N      rounds of each, 7 if it is not given
  --seconds S     how long each run of a round takes, 2 if it is not given; transfers take as long as they take
  --profile DIR   also writes a CPU profile of the server or the peer for every run, which makes it slower
`;

interface BenchOptions {
  readonly names: readonly string[];
  readonly rounds: number;
  readonly seconds: number;
  readonly profileFolder: string | undefined;
}

const options = readOptions();
if (options !== undefined) {
  await bench(options);
}

async function bench(options: BenchOptions): Promise<void> {
  if (options.profileFolder !== undefined) {
    await mkdir(options.profileFolder, { recursive: true });
  }
  const stage = await Stage.start(options);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void stage.stop().finally(() => process.exit(1)));
  }
  try {
    const machine = await machineFacts(stage.folder, stage.postgresUrl);
    const figures: Figure[] = [];
    for (const name of options.names) {
      figures.push(...(await measureScenario(stage, name, options)));
    }
    const command = ["npm run bench", ...(process.argv.length > 2 ? ["--"] : []), ...process.argv.slice(2)].join(" ");
    const { rounds, seconds } = options;
    const file = await save({ command, machine, rounds, seconds, figures });
    console.log(`${toText(figures)}\n\nWritten to ${file}.md and ${file}.json`);
  } finally {
    await stage.stop();
  }
}

async function measureScenario(stage: Stage, name: string, options: BenchOptions): Promise<readonly Figure[]> {
  const startMs = performance.now();
  const scenario = await scenarios[name]?.(stage);
  if (scenario === undefined) {
    throw new RangeError(`there is no ${name}`);
  }
  const preparedMs = performance.now();
  const figures = await runScenario(scenario, options);
  const endMs = performance.now();
  console.error(`${name}: ${seconds(preparedMs - startMs)} to prepare, ${seconds(endMs - preparedMs)} to measure`);
  return figures;
}

/** Gives the path of both files, without what tells them apart. */
async function save(findings: Findings): Promise<string> {
  const folder = fileURLToPath(new URL("results/", import.meta.url));
  await mkdir(folder, { recursive: true });
  const file = `${folder}${findings.machine.date?.slice(0, 19).replaceAll(":", "")}`;
  await writeFile(`${file}.md`, toMarkdown(findings));
  await writeFile(`${file}.json`, toJson(findings));
  return file;
}

/** Undefined if there is nothing to run: help was asked for, or an option is wrong. */
function readOptions(): BenchOptions | undefined {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      rounds: { type: "string", default: "7" },
      seconds: { type: "string", default: "2" },
      profile: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const names = values.only?.split(",") ?? Object.keys(scenarios);
  const rounds = Number(values.rounds);
  const seconds = Number(values.seconds);
  const isWrong = names.some((name) => !(name in scenarios)) || !(rounds >= 1) || !(seconds > 0);
  if (values.help || isWrong) {
    console.error(help);
    process.exitCode = values.help ? 0 : 2;
    return undefined;
  }
  return { names, rounds: Math.floor(rounds), seconds, profileFolder: values.profile };
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
