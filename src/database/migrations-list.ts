/** Every migration, in the order they run. Each is never edited once released. */
import { InitialSchema } from "./migrations/0001-initial-schema.ts";

export const migrationsList = [{ name: "0001-initial-schema", class: InitialSchema }] as const;
