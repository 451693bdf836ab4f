/** Owns how the table of settings is shown: as Markdown in docs/operating.md and as text in `--help`. */
import { isInDataDir, placeInDataDir, type Setting } from "./setting.ts";
import { settings } from "./settings.ts";

type AnySetting = Setting<string, unknown, unknown>;

/** The table of one audience in Markdown, without a line end at its end. */
export function renderSettingsMarkdown(audience: "server" | "client"): string {
  const rows = rowsFor(audience).map(
    (row) => `| \`${row.variable}\` | ${markdownDefault(row)} | ${row.kind.allowed} | ${row.description} |`,
  );
  return ["| Variable | Default | Allowed | What it is |", "|---|---|---|---|", ...rows].join("\n");
}

/** The settings of one audience as lines for a terminal, each variable followed by its description. */
export function renderSettingsText(audience: "server" | "client"): string {
  return rowsFor(audience)
    .map((row) => `  ${row.variable} (default: ${textDefault(row)})\n      ${row.description}`)
    .join("\n");
}

function rowsFor(audience: "server" | "client"): readonly AnySetting[] {
  return settings.filter((row) => row.audience === audience);
}

function markdownDefault(row: AnySetting): string {
  const value = defaultText(row);
  return value === undefined ? `${row.whenUnset}` : `\`${value}\`${inWords(row)}`;
}

function textDefault(row: AnySetting): string {
  const value = defaultText(row);
  return value === undefined ? `unset, ${row.whenUnset}` : `${value}${inWords(row)}`;
}

/** The text that could be put in the variable, or undefined for a setting that is unset by default. */
function defaultText(row: AnySetting): string | undefined {
  if (row.default === undefined) {
    return undefined;
  }
  return isInDataDir(row.default) ? placeInDataDir(row.default, "<LEASEHOLD_DATA_DIR>") : row.kind.format(row.default);
}

/** What follows a default: " (5 GiB)" after 5368709120 bytes, and the plain unit where nothing larger fits exactly. */
function inWords({ default: value, unit }: AnySetting): string {
  if (unit === undefined || (typeof value !== "number" && typeof value !== "bigint")) {
    return "";
  }
  const step = scale(unit).find(([size]) => Number(value) >= size && Number(value) % size === 0);
  if (step === undefined) {
    return ` ${Number(value) === 1 ? unit.replace(/s$/, "") : unit}`;
  }
  const [size, name] = step;
  const count = Number(value) / size;
  return ` (${count} ${count === 1 ? name.replace(/s$/, "") : name})`;
}

function scale(unit: string): readonly (readonly [number, string])[] {
  switch (unit) {
    case "bytes":
      return [
        [1024 ** 3, "GiB"],
        [1024 ** 2, "MiB"],
        [1024, "KiB"],
      ];
    case "seconds":
      return [
        [365 * 86_400, "years"],
        [86_400, "days"],
        [3_600, "hours"],
        [60, "minutes"],
      ];
    default:
      return [];
  }
}
