/** Shows figures as a table: aligned for a terminal, as Markdown for a file, and as JSON for programs. */
import type { MachineFacts } from "./machine.ts";
import type { Figure, Latency, LatencyFigure, Measure, RatioFigure, Spread } from "./measure.ts";

/** What a bench found. */
export interface Findings {
  readonly command: string;
  readonly machine: MachineFacts;
  readonly rounds: number;
  readonly seconds: number;
  readonly figures: readonly Figure[];
}

const columns = [
  "figure",
  "rate",
  "compared with",
  "ratio",
  "at least",
  "",
  "p50, p99, max ms",
  "cores: server, database, load",
];

export function toText(figures: readonly Figure[]): string {
  const rows = [columns, ...figures.map(cellsOf)];
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function toMarkdown(findings: Findings): string {
  const { command, machine, rounds, seconds, figures } = findings;
  const facts = Object.entries({ command: `\`${command}\``, ...machine }).map(([name, value]) => `- ${name}: ${value}`);
  const lines = [columns, columns.map(() => "---"), ...figures.map(cellsOf)].map((row) => `| ${row.join(" | ")} |`);
  return `# Bench of ${machine.date}

${facts.join("\n")}
- ${rounds} interleaved rounds of ${seconds} s; each value is the median, with the lowest and the highest behind it

${lines.join("\n")}
`;
}

export function toJson(findings: Findings): string {
  return `${JSON.stringify(findings, undefined, 2)}\n`;
}

function cellsOf(figure: Figure): readonly string[] {
  return "latencyOf" in figure ? latencyCells(figure) : ratioCells(figure);
}

function ratioCells(figure: RatioFigure): readonly string[] {
  const { title, unit, subjectRate, baselineRate, ratio, holds, subjectMeasure, baselineMeasure } = figure;
  return [
    title,
    `${showSpread(subjectRate, 0)} ${unit}`,
    `${showSpread(baselineRate, 0)}`,
    showSpread(ratio, 2),
    figure.orRateAtLeast === undefined ? `${figure.atLeast}` : `${figure.atLeast}, or ${figure.orRateAtLeast} ${unit}`,
    holds ? "holds" : "SHORT",
    [subjectMeasure.p50Ms, subjectMeasure.p99Ms, subjectMeasure.maxMs].map((ms) => ms.toFixed(1)).join(", "),
    `${showCores(subjectMeasure)}; compared ${showCores(baselineMeasure)}`,
  ];
}

/** Its times are what it is about: they are shown with their spread. */
function latencyCells(figure: LatencyFigure): readonly string[] {
  const { title, unit, rate, besideLatency } = figure;
  const all = besideLatency === undefined ? [figure] : [figure, besideLatency];
  return [
    title,
    `${showSpread(rate, 0)} ${unit}`,
    besideLatency === undefined ? "" : showSpread(besideLatency.rate, 0),
    "",
    "",
    "",
    all.map(showTimes).join("; compared "),
    all.map(({ measure }) => showCores(measure)).join("; compared "),
  ];
}

function showTimes({ p50Ms, p99Ms, maxMs }: Latency): string {
  return [p50Ms, p99Ms, maxMs].map((spread) => showSpread(spread, 2)).join(", ");
}

function showSpread({ median, lowest, highest }: Spread, digits: number): string {
  return `${median.toFixed(digits)} (${lowest.toFixed(digits)}-${highest.toFixed(digits)})`;
}

function showCores({ cores }: Measure): string {
  return [
    cores.server.toFixed(2),
    cores.database?.toFixed(2) ?? "?",
    ...(cores.load === undefined ? [] : [cores.load.toFixed(2)]),
  ].join(", ");
}
