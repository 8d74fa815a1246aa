/** The mailbox in a run's folder: commands that others left there, and their results (RST-7.3 to RST-7.5). */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { control } from "./control.mjs";
import { decode } from "./decode.mjs";
import { Refused } from "./refused.mjs";
import { fileName } from "./spool.mjs";
import { replaceFile } from "./spool_writer.mjs";

const COMMAND = ".json";

export class Mailbox {
  /** `since`: microseconds; what is older was meant for an earlier session. */
  constructor(folder, sid, since) {
    Object.assign(this, { folder, sid, since });
    this.seen = new Set();
  }

  /** The bodies of commands that have come since the last look, the oldest first. */
  receive() {
    const found = [];
    for (const name of existsSync(this.folder) ? readdirSync(this.folder) : []) {
      if (!name.endsWith(COMMAND) || name.startsWith(".") || this.seen.has(name)) continue;
      this.seen.add(name);
      try {
        const { t, m, p } = decode(readFileSync(join(this.folder, name)));
        if (t === "command" && m.get("ts") >= this.since) found.push([m.get("ts"), p]);
      } catch (error) {
        if (!(error instanceof Refused) && error.code === undefined) throw error;
      }
    }
    return found.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0)).map(([, p]) => p);
  }

  answer(id, body, now) {
    replaceFile(this.folder, `${fileName(id)}.${fileName(this.sid)}.result`, control("command_result", body, now).subarray(4));
  }
}
