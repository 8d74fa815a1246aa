/** The requests to a server. One that will be killed runs in a process of its own, which answers the same requests. */

import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Fold } from "./fold.mjs";
import { Server } from "./server.mjs";

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const DEADLINES = {
  first_frame: "firstFrame",
  frame: "frame",
  ping: "ping",
  idle: "idle",
  gone: "gone",
  command: "command",
};

function optionsOf({ max_frame, deadlines = {}, bounds = {} }) {
  const out = { ...bounds };
  if (max_frame !== undefined) out.maxFrame = max_frame;
  for (const [name, seconds] of Object.entries(deadlines)) out[DEADLINES[name]] = seconds * 1000;
  return out;
}

/** A server and its keeper. */
export class Keeper {
  constructor(folder) {
    this.folder = folder;
    this.ids = new Map(); // ids of keys, by the names that the suite gives them
    this.server = null;
  }

  async start({ options = {} }) {
    const { keys, host, tls } = options;
    if (tls) return { refused: "it speaks no TLS" };
    try {
      this.server = new Server(this.folder, { withKeys: keys !== undefined, host, options: optionsOf(options) });
    } catch (error) {
      if (error instanceof RangeError) return { refused: error.message };
      throw error;
    }
    const texts = {};
    for (const key of keys ?? []) {
      const { id, key: text } = this.server.keys.add(key);
      this.ids.set(key.name, id);
      texts[key.name] = text;
    }
    const port = await this.server.start();
    return {
      host: "127.0.0.1",
      port,
      durability: "power",
      features: ["commands", "follow"],
      ...(keys ? { keys: texts } : {}),
    };
  }

  async stop() {
    await this.server?.stop();
    this.server = null;
    return {};
  }

  events({ run_id }) {
    const run = this.server.store.collection.known(run_id);
    if (run === undefined || run.isEmpty) return { events: [], streams: [], status: "pending" };
    const events = run.log.map(({ stream, seq }) => ({
      wid: stream.wid,
      sid: stream.sid,
      payload: base64(stream.events.get(seq).payload),
    }));
    const streams = [...run.streams.values()].map(({ wid, sid, lost }) => ({
      wid,
      sid,
      lost: lost.pairs.map((pair) => pair.map(Number)),
    }));
    return { events, streams, status: new Fold(run).state().status };
  }

  counts() {
    const { refused, frames, lines } = this.server.hub;
    return { refused, frames, log: lines.join("\n") };
  }

  keys({ change }) {
    const { keys, hub } = this.server;
    if (change.add) {
      const { id, key, refused } = keys.add(change.add);
      if (refused !== undefined) return { refused };
      this.ids.set(change.add.name, id);
      return { key };
    }
    if (change.remove) keys.remove(this.ids.get(change.remove));
    else if (change.replace) {
      const { key } = keys.replace(this.ids.get(change.replace), change.grace ?? 0);
      hub.checkKeys();
      if (change.grace > 0) hub.clock.after(change.grace * 1000 + 1, () => hub.checkKeys());
      return { key };
    } else if (change.show) return { kept: base64(keys.kept()) };
    else if (change.unreadable !== undefined) keys.damage(change.unreadable);
    hub.checkKeys();
    return {};
  }

  access({ run_id, owner, grant, rights = [], revoke, public: open }) {
    const { hub } = this.server;
    const without = (list, name) => list.filter((other) => other !== name);
    hub.access.set(run_id, (now) => {
      if (owner !== undefined) return { owner };
      if (open !== undefined) return { public: open };
      const name = grant ?? revoke;
      const change = { readers: without(now.readers ?? [], name), writers: without(now.writers ?? [], name) };
      if (grant !== undefined) (rights.includes("write") ? change.writers : change.readers).push(grant);
      return change;
    });
    hub.commit();
    hub.tick();
    return {};
  }

  delete({ run_id }) {
    this.server.hub.deleteRun(run_id);
    return {};
  }

  trouble({ on }) {
    const { store, hub } = this.server;
    store.trouble = on;
    if (on) hub.beginTrouble();
    return {};
  }
}

/** A Keeper in a process of its own, that can be killed. */
class Distant {
  constructor(folder) {
    this.child = fork(new URL("./server_process.mjs", import.meta.url), [folder], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    this.waiting = new Map();
    this.count = 0;
    this.over = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.on("message", ({ number, ok, error }) => {
      const { resolve, reject } = this.waiting.get(number);
      this.waiting.delete(number);
      if (error === undefined) resolve(ok);
      else reject(new Error(error));
    });
    void this.over.then(() =>
      this.waiting.forEach(({ reject }) => reject(new Error("the server's process has ended"))),
    );
  }

  ask(op, request) {
    this.count += 1;
    return new Promise((resolve, reject) => {
      this.waiting.set(this.count, { resolve, reject });
      this.child.send({ number: this.count, op, request });
    });
  }

  async kill() {
    this.child.kill("SIGKILL");
    await this.over;
  }
}

class Session {
  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "xtrack-server-"));
    this.keeper = null;
    this.distant = null;
  }

  async ask(op, request) {
    if (op === "start") await this.prepare(request.options ?? {});
    if (op === "kill") {
      await this.distant.kill();
      this.distant = null;
      return {};
    }
    if (this.distant !== null) {
      const ok = await this.distant.ask(op, request);
      if (op === "stop") await this.endDistant();
      return ok;
    }
    return this.keeper[op](request);
  }

  async prepare({ store, kill }) {
    await this.endDistant();
    if (store !== "kept") {
      rmSync(this.folder, { recursive: true });
      this.folder = mkdtempSync(join(tmpdir(), "xtrack-server-"));
      this.keeper = null;
    }
    if (kill) this.distant = new Distant(this.folder);
    else this.keeper ??= new Keeper(this.folder);
  }

  async endDistant() {
    await this.distant?.kill();
    this.distant = null;
  }

  async forget() {
    await this.endDistant();
    await this.keeper?.stop();
    rmSync(this.folder, { recursive: true, force: true });
    return {};
  }
}

const sessions = new Map();

export const SERVER_OPS = {};
for (const name of ["start", "stop", "kill", "events", "counts", "keys", "access", "delete", "trouble"]) {
  SERVER_OPS[`server.${name}`] = async (request) => {
    if (!sessions.has(request.session)) sessions.set(request.session, new Session());
    return { ok: await sessions.get(request.session).ask(name, request) };
  };
}
SERVER_OPS["server.forget"] = async ({ session }) => {
  const ended = sessions.get(session);
  sessions.delete(session);
  return { ok: ended === undefined ? {} : await ended.forget() };
};
