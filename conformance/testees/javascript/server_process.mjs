/** The process of a server that may be killed: answers what server_ops.mjs asks. */

import { Keeper } from "./server_ops.mjs";

const keeper = new Keeper(process.argv[2]);

process.on("message", async ({ number, op, request }) => {
  try {
    process.send({ number, ok: await keeper[op](request) });
  } catch (error) {
    process.send({ number, error: String(error?.stack ?? error) });
  }
});
process.on("disconnect", () => process.exit(0));
