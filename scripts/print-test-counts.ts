// Prints how many tests passed and failed, from the JSON report of vitest: `print-test-counts.ts REPORT`.
import { readFileSync } from "node:fs";

interface TestReport {
  readonly success: boolean;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { status: string }[];
  }[];
}

const [reportPath] = process.argv.slice(2);
if (reportPath === undefined) throw new Error("usage: print-test-counts.ts REPORT");
const report: TestReport = JSON.parse(readFileSync(reportPath, "utf8"));
// A file that cannot be loaded has no tests to count: it counts as one failure.
const brokenFiles = report.testResults.filter(
  (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
).length;
const failed = report.numFailedTests + brokenFiles;
console.log(`${report.numPassedTests} passed, ${failed} failed`);
if (!report.success || failed > 0 || report.numPassedTests === 0) process.exitCode = 1;
