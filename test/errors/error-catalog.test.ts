import { readFileSync } from "node:fs";
import { Code } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { documentedReasons } from "../../scripts/docs/errors-page.ts";
import { errorCatalog } from "../../src/errors/error-catalog.ts";

const documented = documentedReasons(readFileSync("proto/leasehold/v1/error_reason.proto", "utf8"));

test("every reason goes over the wire with the code and the status that its comment gives, in the same order", () => {
  const catalogued = Object.entries(errorCatalog).map(([name, entry]) => [
    name,
    codeName(entry.code),
    entry.httpStatus,
  ]);
  expect(catalogued).toEqual(documented.map((reason) => [reason.name, reason.code, reason.httpStatus]));
});

function codeName(code: Code): string {
  const name = Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  return name === "CANCELED" ? "CANCELLED" : name;
}
