/** Holds requests to the rules of the schema, before any handler sees them. */
import { create, type DescMessage, type Message } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator, type Violation } from "@bufbuild/protovalidate";
import { type FieldViolation, LeaseholdError } from "../errors/leasehold-error.ts";

/** Checks requests. Rules are compiled once for each message, when the server starts. */
export class RequestValidator {
  readonly #validator = createValidator();

  /** Compiles a message's rules, so that a rule that cannot be compiled stops the start and not a call. */
  compile(descriptor: DescMessage): void {
    const result = this.#validator.validate(descriptor, create(descriptor));
    if (result.kind === "error") {
      throw result.error;
    }
  }

  /** @throws LeaseholdError INVALID_FIELD, which names every field that breaks a rule. */
  check(descriptor: DescMessage, message: Message): void {
    const result = this.#validator.validate(descriptor, message);
    switch (result.kind) {
      case "valid":
        return;
      case "invalid":
        throw toInvalidField(result.violations);
      case "error":
        throw result.error;
    }
  }
}

/** A map's key is part of a path, and is as long as its sender likes: an error must fit into a response's trailers. */
const maxFieldLength = 128;
const maxViolations = 16;

function toInvalidField(violations: readonly Violation[]): LeaseholdError {
  const fieldViolations = violations.slice(0, maxViolations).map(describe);
  const first = fieldViolations[0] ?? { field: "", description: "breaks a rule" };
  const others = violations.length > 1 ? ` So do ${violations.length - 1} more rules.` : "";
  return new LeaseholdError("INVALID_FIELD", `${first.field} breaks its rule: ${first.description}.${others}`, {
    metadata: { field: first.field },
    fieldViolations,
  });
}

function describe(violation: Violation): FieldViolation {
  return { field: pathToString(violation.field).slice(0, maxFieldLength), description: violation.message };
}
