/** The sweeper that is measured: the product's own, over the database and folder it is told of. */
import { sweep } from "../src/processes/sweep.ts";
import { serveCommands } from "./harness/bench-process.ts";

const swept = sweep(process.env);

// It hears itself that the bench is gone.
serveCommands({}, () => swept);
