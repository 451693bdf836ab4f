/** Tests that the table of settings describes what the program reads. */
import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load-config.ts";
import { renderSettingsMarkdown, renderSettingsText } from "../../src/config/render-settings.ts";
import { settings } from "../../src/config/settings.ts";

test("each setting has a variable and a key of its own, and one sentence", () => {
  expect(new Set(settings.map((row) => row.variable)).size).toBe(settings.length);
  expect(new Set(settings.map((row) => row.key)).size).toBe(settings.length);
  for (const row of settings) {
    expect(row.variable).toMatch(/^(LEASEHOLD(_[A-Z]+)+|DATABASE_URL)$/);
    expect(row.description).toMatch(/^[A-Z0-9].*[^.]\.$/);
  }
});

test("a setting without a default says what being unset means, and only that one", () => {
  for (const row of settings) {
    expect(row.whenUnset !== undefined).toBe(row.default === undefined);
  }
});

test("each default is an allowed value: set by hand, it gives the same config", () => {
  for (const line of renderSettingsMarkdown("server").split("\n").slice(2)) {
    const [, variable, value] = /^\| `(\w+)` \| `([^`<]+)`/.exec(line) ?? [];
    if (variable !== undefined) {
      expect(loadConfig({ [variable]: value })).toEqual(loadConfig({}));
    }
  }
});

test("the table in Markdown has a row of four cells for each setting of its audience", () => {
  for (const audience of ["server", "client"] as const) {
    const lines = renderSettingsMarkdown(audience).split("\n");
    const variables = settings.filter((row) => row.audience === audience).map((row) => row.variable);
    expect(lines.slice(2).map((line) => /^\| `(\w+)`( \| [^|]+){3} \|$/.exec(line)?.[1])).toEqual(variables);
  }
});

test("sizes and time spans are shown in the unit that people use", () => {
  const markdown = renderSettingsMarkdown("server");
  expect(markdown).toContain("| `LEASEHOLD_MAX_FILE_BYTES` | `5368709120` (5 GiB) |");
  expect(markdown).toContain("| `LEASEHOLD_EPOCH_SECONDS` | `3600` (1 hour) |");
  expect(markdown).toContain("| `LEASEHOLD_MAX_DURATION_SECONDS` | `31536000` (1 year) |");
  expect(markdown).toContain("| `LEASEHOLD_SWEEP_INTERVAL_SECONDS` | `1` second |");
  expect(markdown).toContain("| `LEASEHOLD_CONTENT_DIR` | `<LEASEHOLD_DATA_DIR>/content` |");
});

test("the help text gives the variable, its default and what it is", () => {
  expect(renderSettingsText("client")).toBe(
    [
      "  LEASEHOLD_URL (default: http://127.0.0.1:8080)",
      "      Address of a server's HTTP door.",
      "  LEASEHOLD_GRPC_URL (default: http://127.0.0.1:50051)",
      "      Address of a server's gRPC door.",
      "  LEASEHOLD_API_KEY (default: unset, the key of the demo account beside a local dev, or none)",
      "      API key that calls are made with.",
      "  LEASEHOLD_DROP_TOKEN (default: unset, given with the command)",
      "      Drop token, or drop address, of the mailbox that messages are dropped into.",
    ].join("\n"),
  );
  expect(renderSettingsText("server")).toContain("LEASEHOLD_MAX_FILE_BYTES (default: 5368709120 (5 GiB))");
});
