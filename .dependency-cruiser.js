// The arrows of the architecture: which folder of src/ may import which. `npm run check` enforces them.

const variants = "^src/(storage|mailbox|checkpoint|scratchpad|cron)/";
const rows = "(^src/database/|-statements?[.]ts$|-?entit(y|ies)[.]ts$|/migrations/)";

export default {
  forbidden: [
    {
      name: "no-cycles",
      comment: "Two files that import each other are one thing in two places.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "variants-are-strangers",
      comment: "A variant knows the shared folders, never another variant.",
      severity: "error",
      from: { path: variants },
      to: { path: variants, pathNot: "^src/$1/" },
    },
    {
      name: "shared-folders-know-no-variant",
      comment: "What is shared reaches a variant only through the LeaseVariant object it is handed.",
      severity: "error",
      from: { path: "^src/(lease|handoff|sweeper|server|account|pricing|idempotency|content|wakeups|webhooks)/" },
      to: { path: variants },
    },
    {
      name: "server-holds-no-business-rule",
      comment: "The doors serve what they are handed: src/app.ts hands it over.",
      severity: "error",
      from: { path: "^src/server/" },
      to: { path: "^src/(lease|handoff|account|pricing|idempotency|sweeper|content|database)/" },
    },
    {
      name: "ground-knows-no-feature",
      comment: "Errors, ids, secrets and sealing serve every feature, so they import none.",
      severity: "error",
      from: { path: "^src/(errors|ids|secrets|content)/" },
      to: { path: "^src/(lease|handoff|account|pricing|idempotency|sweeper|server|cli)/|^src/app[.]ts$" },
    },
    {
      name: "sql-has-few-homes",
      comment: "Only the database folder, statement files, entities and migrations speak SQL.",
      severity: "error",
      from: { path: "^src/", pathNot: rows },
      to: { path: "^src/database/statement[.]ts$|(^|/)node_modules/(pg|kysely|@mikro-orm/[^/]+)/" },
    },
    {
      name: "nobody-imports-main",
      comment: "It is where the command line starts.",
      severity: "error",
      from: {},
      to: { path: "^src/main[.]ts$" },
    },
    {
      name: "src-stands-alone",
      comment: "What is published imports only what is published with it.",
      severity: "error",
      from: { path: "^src/" },
      to: { path: "^(test|demo|bench|scripts)/" },
    },
    {
      name: "no-unlisted-package",
      comment: "A published file finds only what package.json lists under dependencies.",
      severity: "error",
      from: { path: "^src/" },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"] },
    },
    {
      name: "no-missing-file",
      comment: "An import that leads nowhere.",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    // The native TypeScript compiler has no parser that dependency-cruiser can call.
    parser: "swc",
    doNotFollow: { path: "(^|/)node_modules/|^gen/" },
    enhancedResolveOptions: {
      conditionNames: ["import", "node", "default", "types"],
      exportsFields: ["exports"],
    },
  },
};
