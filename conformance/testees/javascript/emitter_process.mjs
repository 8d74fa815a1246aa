/** A process that logs, as emit.process asks for it: node emitter_process.mjs FILE. What its calls came to is written beside FILE. */

import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

import { argument, CALLS } from "./emitter_calls.mjs";
import { annotate, start, watchTheEnd } from "./environment.mjs";
import { runProcess } from "./processes.mjs";
import { setTimeout as pause } from "node:timers/promises";

const path = process.argv[2];
const { calls, ending } = JSON.parse(readFileSync(path, "utf-8"));
const outcomes = [];
let emitter = null;
watchTheEnd({ interrupts: true });

const plain = (value) =>
  value instanceof Map
    ? Object.fromEntries([...value].map(([name, item]) => [name, plain(item)]))
    : typeof value === "bigint"
      ? Number(value)
      : value;

async function make({ call, request, arguments: given }) {
  const values = argument(given ?? { t: "obj", v: [] });
  if (call === "start") {
    emitter = start(plain(values));
    return;
  }
  if (call === "annotate") annotate(plain(values));
  else if (call === "process") {
    // The folder that this process shares is that one's, too.
    const { told } = await runProcess(request, dirname(process.cwd()));
    process.stderr.write(told.map((line) => `${line}\n`).join(""));
  } else if (call === "commands") {
    // What has come must be read first; a busy machine takes its time.
    for (let tries = 0; tries < 40 && emitter.commands.length === 0; tries += 1) await pause(50);
    await pause(50);
    emitter.takeCommands();
  } else if (call === "flush" || call === "end") {
    const timeout = values.get("timeout") === undefined ? undefined : Number(values.get("timeout"));
    const awake = setInterval(() => {}, 1000); // nothing of the emitter's keeps a program from ending
    try {
      await new Promise((done) => {
        if (call === "flush") emitter.flush(values.get("until"), timeout, done);
        else emitter.end({ status: values.get("status"), error: values.get("error"), timeout }, done);
      });
    } finally {
      clearInterval(awake);
    }
  } else CALLS[call](emitter, values);
}

for (const call of calls) {
  try {
    await make(call);
    outcomes.push("returned");
  } catch {
    outcomes.push("raised");
  }
  writeFileSync(`${path}.calls`, JSON.stringify(outcomes));
}

const [how, code] = ending.split(" ");
if (how === "exit") process.exit(Number(code));
else if (how === "exception") throw new Error("nobody catches this");
else if (how === "interrupt") process.kill(process.pid, "SIGINT");
else if (how === "terminate") process.kill(process.pid, "SIGTERM");
else if (how === "kill") process.kill(process.pid, "SIGKILL");
if (how === "interrupt" || how === "terminate") await pause(1000);
