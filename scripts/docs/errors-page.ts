/** Makes docs/errors.md from the comments of error_reason.proto, in the order of the enum, which is that of precedence. */

/** One reason as its comment describes it. */
export interface DocumentedReason {
  readonly name: string;
  readonly code: string;
  readonly httpStatus: number;
  readonly text: string;
  readonly metadata: readonly string[];
}

const commentForm = /^([A-Z_]+), (\d{3})(?: \([^)]*\))?\. (.*)$/s;

/** Reads every reason but the unset one. @throws if a comment does not give its code and status first. */
export function documentedReasons(proto: string): DocumentedReason[] {
  const found: DocumentedReason[] = [];
  for (const match of proto.matchAll(/((?:^ {2}\/\/.*\n)+) {2}ERROR_REASON_([A-Z_]+) = (\d+);/gm)) {
    const [, comment = "", name = "", number = ""] = match;
    if (number === "0") {
      continue;
    }
    const text = comment
      .replace(/^ {2}\/\/ ?/gm, "")
      .replace(/\s*\n/g, " ")
      .trim();
    const parts = commentForm.exec(text);
    if (parts === null) {
      throw new Error(`the comment of ${name} does not begin with its code and HTTP status`);
    }
    const rest = parts[3] ?? "";
    const metadata = /Metadata: ((?:`[a-z_]+`(?:, )?)+)/.exec(rest)?.[1] ?? "";
    found.push({
      name,
      code: parts[1] ?? "",
      httpStatus: Number(parts[2]),
      text: rest,
      metadata: [...metadata.matchAll(/`([a-z_]+)`/g)].map((name) => name[1] ?? ""),
    });
  }
  return found;
}

/** The page. */
export function errorsPage(proto: string): string {
  const rows = documentedReasons(proto).map(
    (reason) => `| \`${reason.name}\` | ${reason.code} · ${reason.httpStatus} | ${reason.text} |`,
  );
  return `# Errors

For whoever handles them. Made from \`proto/leasehold/v1/error_reason.proto\` by \`npm run docs\`.

Every error carries \`google.rpc.ErrorInfo\` with the domain \`leasehold\`, one of the reasons below, and metadata for every
variable part of its message; \`BadRequest\`, \`RetryInfo\` and \`QuotaFailure\` come with it where they apply. Over plain HTTP
the body is JSON with the same reason and metadata, and \`Retry-After\` where there is a delay. Decide by the reason, never
by the message, which says what to do next and may change.

**What to retry.** UNAVAILABLE is the only code to retry blindly, after the delay in \`RetryInfo\`: with the same
\`request_id\` if the call has one. ABORTED means somebody else was first: look again, then decide. Nothing else gets better by
itself.

**Which comes first.** When several apply, the credential is judged first, then whether the thing is yours to know of, then
whether it has ended, then the rest. What is unknown and what is another's give the same bytes.

| reason | code · HTTP | what it means, and what to do |
|---|---|---|
${rows.join("\n")}
`;
}
