/** Commands that a collector passes on from one client to others, and their results (CTL-15). */

import { createHash } from "node:crypto";

import { compareText } from "./order.mjs";
import { runOf } from "./decode.mjs";

const MAX_ID = 128;
const MAX_COMMAND = 65_536;
const MAX_AT_ONCE = 64;
const KEPT = 1000; // finished commands whose results are kept for who repeats them

/** The same text for values that are the same, in whatever order their names come. */
function canonical(value) {
  if (value instanceof Map) {
    const names = [...value.keys()].sort(compareText);
    return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value.get(name))}`).join(",")}}`;
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  return typeof value === "bigint" || typeof value === "number" ? String(value) : JSON.stringify(value);
}

/** CTL-15.2, CTL-15.8: the id under which a command is passed on; the same for the same command of the same owner. */
function innerId(client, run, p) {
  const said = new Map([...p, ["run_id", run], ["payload", p.get("payload") ?? new Map()]]);
  return createHash("sha256")
    .update(canonical([client.key?.owner ?? "", said]))
    .digest("hex")
    .slice(0, 32);
}

export class Router {
  constructor(hub) {
    this.hub = hub;
    this.passed = new Map(); // by the id under which it was passed on, finished ones included
  }

  command(client, event, payload) {
    const { p } = event;
    const run = runOf(event);
    const id = p.get("cmd_id");
    if (run === undefined) {
      this.fail(client, "", id, "a command names a run");
      return;
    }
    const why = this.refusal(client, run, id, payload);
    if (why !== undefined) {
      this.fail(client, run, id, why);
      return;
    }
    const known = this.passed.get(innerId(client, run, p));
    if (known !== undefined) {
      for (const result of known.results) client.send("command_result", result);
      if (known.waiting.length > 0) this.ask(client, known);
      return;
    }
    const underWay = [...client.commands].filter(({ waiting }) => waiting.length > 0);
    if (underWay.some((other) => other.id === id)) {
      this.fail(client, run, id, "another command with this cmd_id is under way");
      return;
    }
    if (underWay.length >= MAX_AT_ONCE) {
      this.fail(client, run, id, "too many commands are under way");
      return;
    }
    const targets = this.targets(run, p.get("wid"));
    if (targets.length === 0) {
      this.fail(client, run, id, "no such worker is connected");
      return;
    }
    this.passOn(client, run, id, p, targets);
  }

  refusal(client, run, id, payload) {
    const length = Buffer.byteLength(id);
    if (length < 1 || length > MAX_ID) return "a cmd_id has 1 to 128 bytes";
    if (payload.length > MAX_COMMAND) return "the command is too long";
    if (!this.hub.access.hasRight(client.key, "write")) return "the key is not good for commands";
    // SEC-4.7: as if the run were not there.
    if (!this.hub.access.mayWrite(client.key, run)) return "no such worker is connected";
    return undefined;
  }

  fail(client, run, id, msg) {
    client.send("command_result", { run_id: run, cmd_id: id, status: "error", msg, left: 0n });
  }

  /** CTL-15.1: one of each connection and worker. */
  targets(run, wid) {
    const out = [];
    for (const peer of this.hub.peers) {
      const mine = new Set();
      const plain = peer.state === "plain";
      const streams = plain ? peer.plain.values() : peer.features.has("commands") ? peer.streams.values() : [];
      for (const stream of streams) {
        if (stream.run !== run || stream.passive || stream.fenced || (wid !== undefined && stream.wid !== wid))
          continue;
        mine.add(stream.wid);
      }
      for (const worker of mine) out.push({ peer, worker, plain });
    }
    return out;
  }

  passOn(client, run, id, p, targets) {
    const command = { run, id, targets, waiting: targets, results: [], askers: new Set(), passedAs: innerId(client, run, p) };
    this.ask(client, command);
    this.passed.set(command.passedAs, command);
    const body = Object.fromEntries([...p, ["cmd_id", command.passedAs], ["run_id", run]]);
    for (const peer of new Set(targets.map((target) => target.peer))) {
      peer.targets.add(command);
      // On a plain connection nothing but `command` may be sent, and this is one (VER-3.5).
      peer.send("command", body);
    }
    for (const target of targets.filter(({ plain }) => plain)) {
      this.answer(command, target, { status: "ok", msg: "such a worker takes commands, and does not answer" });
    }
    if (command.waiting.length > 0)
      command.off = this.hub.clock.after(this.hub.options.command, () => this.failAll(command, "it has not answered"));
  }

  ask(client, command) {
    client.commands.add(command);
    command.askers.add(client);
  }

  answer(command, target, { status, msg }) {
    command.waiting = command.waiting.filter((other) => other !== target);
    const result = {
      run_id: command.run,
      cmd_id: command.id,
      status,
      msg,
      wid: target.worker === "" ? undefined : target.worker,
      left: BigInt(command.waiting.length),
    };
    command.results.push(result);
    for (const client of command.askers) client.send("command_result", result);
    if (command.waiting.length === 0) this.finish(command);
  }

  finish(command) {
    command.off?.();
    for (const peer of this.hub.peers) peer.targets.delete(command);
    for (const client of command.askers) client.commands.delete(command);
    command.askers.clear();
    const done = [...this.passed.values()].filter(({ waiting }) => waiting.length === 0);
    for (const { passedAs } of done.slice(0, Math.max(0, done.length - KEPT))) this.passed.delete(passedAs);
  }

  /** CTL-15.3, CTL-15.12: the first result of a worker that was asked. */
  result(peer, p) {
    const command = this.passed.get(p.get("cmd_id"));
    if (command === undefined || runOf({ p }) !== command.run) return;
    const mine = command.targets.filter((target) => target.peer === peer);
    const wid = p.get("wid");
    const target =
      mine.find(({ worker }) => worker === (wid ?? "")) ??
      (wid === undefined && mine.length === 1 ? mine[0] : undefined);
    if (command.waiting.includes(target)) this.answer(command, target, { status: p.get("status"), msg: p.get("msg") });
  }

  failAll(command, msg, which = () => true) {
    for (const target of command.waiting.filter(which)) this.answer(command, target, { status: "error", msg });
  }

  /** CTL-15.6: a connection has ended, that of a worker or of a client. */
  forget(peer) {
    for (const command of [...peer.targets]) {
      this.failAll(command, "its connection has ended", (target) => target.peer === peer);
    }
    for (const command of [...peer.commands]) {
      command.askers.delete(peer);
      if (command.askers.size > 0) continue;
      this.finish(command);
      this.passed.delete(command.passedAs); // its workers know it, should it come again
    }
  }
}
