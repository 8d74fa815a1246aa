/** The requests to an emitter: the suite is the training, the collector and the clock. */

import { fsyncSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { VirtualClock } from "./clock.mjs";
import { Emitter, Misconfigured } from "./emitter.mjs";
import { files, folderOf, forgetFolder } from "./folders.mjs";
import { SpoolPlace } from "./place.mjs";
import { orphansIn, Shipping } from "./ship.mjs";
import { argument, CALLS, optional, seconds } from "./emitter_calls.mjs";
import { runProcess } from "./processes.mjs";
import { toTagged } from "./tagged.mjs";

/** The disk that the suite has: it can refuse, take its time, and be of any size. */
class Disk {
  constructor() {
    this.forces = true;
    this.forced = 0;
    this.size = null;
    this.pending = [];
    this.force = (file) => {
      if (this.forces === false) throw new Error("the disk refuses");
      fsyncSync(file);
      this.forced += 1;
    };
    this.forceLater = (file, done) => {
      if (this.forces === "slowly") {
        this.pending.push(() => this.forceLater(file, done));
        return;
      }
      let failed;
      try {
        this.force(file);
      } catch (error) {
        failed = error;
      }
      done(failed);
    };
    this.room = () => this.size ?? { total: 2 ** 40, free: 2 ** 39 };
  }

  set(forces) {
    this.forces = forces;
    if (forces !== "slowly") for (const work of this.pending.splice(0)) work();
  }
}

class Session {
  constructor(shared) {
    this.isShared = shared !== undefined;
    this.folder = shared ?? mkdtempSync(join(tmpdir(), "xtrack-emitter-"));
    this.clock = new VirtualClock();
    this.drive = new Disk();
    this.written = [];
    this.connection = "none";
    this.commands = [];
    this.told = [];
    this.call = null;
    const session = this;
    this.line = {
      url: "tcp://localhost:9999",
      want() {
        session.connection = "wanted";
      },
      write(bytes) {
        if (session.stalled) return;
        session.written.push(bytes);
        session.taken += bytes.length;
      },
      taken: () => session.taken,
      close() {
        session.connection = "none";
      },
    };
  }

  start({ now, options }) {
    this.clock.time = now;
    const collector = options.collector ?? true;
    // Each lock costs a process: where nobody else looks, there are none.
    const kind = { collector, locks: this.isShared, disk: this.drive };
    try {
      this.emitter = new Emitter({
        options,
        clock: this.clock,
        places: (stream) => new SpoolPlace(this.folder, stream, this.clock, kind),
        line: collector ? this.line : null,
        orphans: (own, url) => (this.isShared ? orphansIn(this.folder, own, url) : []),
        tell: (line) => this.told.push(line),
      });
      this.call = { call: "returned" };
    } catch (error) {
      if (!(error instanceof Misconfigured)) throw error;
      this.call = { call: "raised", error: error.message };
    }
  }

  ship({ now, again }) {
    this.clock.time = now;
    this.call = { call: "waits" };
    const { clock, line } = this;
    const done = (success) => {
      this.call = { call: "returned", value: toTagged(success) };
    };
    this.shipping = new Shipping({ root: this.folder, clock, line, tell: (text) => this.told.push(text), again, done });
  }

  get link() {
    return this.emitter?.link ?? this.shipping?.link;
  }

  calling({ call, arguments: given }) {
    const values = argument(given);
    this.call = { call: "waits" };
    const done = (value) => {
      this.call = { call: "returned", ...(value === undefined ? {} : { value: toTagged(value) }) };
    };
    if (call === "commands") {
      for (const p of this.emitter.takeCommands()) {
        this.commands.push({
          cmd_id: p.get("cmd_id"),
          type: p.get("type"),
          payload: toTagged(p.get("payload") ?? new Map()),
        });
      }
      done();
    } else if (call === "flush") this.emitter.flush(values.get("until"), seconds(values), done);
    else if (call === "end") {
      const [status, error] = [optional(values, "status"), optional(values, "error")];
      this.emitter.end({ status, error, timeout: seconds(values) }, () => done());
    } else {
      CALLS[call](this.emitter, values);
      done();
    }
  }

  connected({ address }) {
    this.connection = "open";
    this.taken = 0;
    this.stalled = false;
    this.link.connected(address);
  }

  refused() {
    this.connection = "none";
    this.link.refused();
  }

  receive({ bytes }) {
    if (this.connection === "open") this.link.receive(Buffer.from(bytes, "base64"));
  }

  disconnected() {
    this.connection = "none";
    this.link.disconnected();
  }

  tick({ now }) {
    this.clock.advance(now);
  }

  full({ full }) {
    const { place } = this.emitter;
    // Room that was given up at the end stays there.
    place.full = full && place.reserve;
  }

  disk({ forces }) {
    this.drive.set(forces);
  }

  room({ total, free }) {
    this.drive.size = { total, free };
  }

  stall() {
    this.stalled = true;
  }

  facts() {
    const call = this.call;
    if (call !== null && call.call !== "waits") this.call = null;
    const facts = {
      written: Buffer.concat(this.written).toString("base64"),
      connection: this.connection,
      commands: this.commands,
      told: this.told,
      forced: this.drive.forced,
      ...(call ?? {}),
      ...(this.emitter === undefined ? {} : { counts: this.emitter.counts() }),
    };
    this.written = [];
    this.commands = [];
    this.told = [];
    this.drive.forced = 0;
    return facts;
  }

  forget() {
    this.link?.end();
    this.emitter?.place.end();
    if (!this.isShared) rmSync(this.folder, { recursive: true, force: true });
  }
}

const sessions = new Map();
const NAMES = {
  ship: "ship",
  disk: "disk",
  room: "room",
  stall: "stall",
  start: "start",
  call: "calling",
  connected: "connected",
  refused: "refused",
  receive: "receive",
  disconnected: "disconnected",
  tick: "tick",
  full: "full",
};

export const EMITTER_OPS = {
  "emit.forget"({ session, dir }) {
    const ended = sessions.get(session);
    sessions.delete(session);
    ended?.forget();
    if (dir !== undefined) forgetFolder(dir);
    return { ok: {} };
  },
  "emit.files": (request) => ({ ok: files(request) }),
};
EMITTER_OPS["emit.process"] = async (request) => ({
  ok: await runProcess(request, request.dir === undefined ? undefined : folderOf(request.dir)),
});
for (const [name, method] of Object.entries(NAMES)) {
  EMITTER_OPS[`emit.${name}`] = (request) => {
    if (!sessions.has(request.session)) {
      sessions.set(request.session, new Session(request.dir === undefined ? undefined : folderOf(request.dir)));
    }
    const session = sessions.get(request.session);
    session[method](request);
    return { ok: session.facts() };
  };
}
