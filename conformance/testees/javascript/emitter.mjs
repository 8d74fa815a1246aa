/**
 * An emitter: makes events, numbers and keeps them, and has a Link send them (EMT, EVT).
 *
 * No call raises once the run has started (EMT-3.1); what went wrong is counted and told, at a limited rate (EMT-3.2).
 */

import { randomBytes } from "node:crypto";

import { Lane } from "./lane.mjs";
import { Link } from "./link.mjs";
import { Full } from "./place.mjs";
import { Refused } from "./refused.mjs";
import { fit, split } from "./shorten.mjs";
import { asFree, asInteger, asMap, asNumber, asText, NoNumber } from "./values.mjs";
import { named } from "./control.mjs";

const SECOND = 1000;
export const MAX_EVENT = 1_048_576;
const MAX_ID = 1024;
const LEVELS = new Set(["debug", "info", "warning", "error"]);
const OTHER_LEVELS = { warn: "warning", critical: "error", fatal: "error", trace: "debug" };
const STATUSES = new Set(["completed", "failed", "killed"]);
const RESERVED = new Set(["xtrack.name", "xtrack.note"]);
const END_WAIT = 30 * SECOND;
const NEVER_REACHED = 5 * SECOND;
const WARN_AGAIN = 60 * SECOND;

export class Misconfigured extends Error {}

function checkId(text, what, mayBeEmpty) {
  if (typeof text !== "string" || !text.isWellFormed()) throw new Misconfigured(`${what} is a text`);
  if (Buffer.byteLength(text) > MAX_ID) throw new Misconfigured(`${what} has more than 1024 bytes`);
  if (text === "" && !mayBeEmpty) throw new Misconfigured(`${what} is empty`);
}

export class Emitter {
  /**
   * `places` makes the place for a stream; `line` is what a Link uses, or null where nothing is sent anywhere. `tell` writes a line for
   * people.
   */
  constructor({ options, clock, places, line = null, orphans, tell = () => {}, random }) {
    const { run_id, worker_id = "", world_size } = options;
    checkId(run_id, "the run id");
    checkId(worker_id, "the worker id", true);
    if (world_size !== undefined && !(Number.isSafeInteger(world_size) && world_size >= 1)) {
      throw new Misconfigured("world_size is a whole number from 1 on");
    }
    Object.assign(this, { options, clock, tell });
    this.stream = { run: run_id, wid: worker_id, sid: randomBytes(16).toString("hex") };
    this.place = places(this.stream);
    this.last = 0n;
    this.dropped = 0;
    this.refusedCalls = 0;
    this.warned = new Map();
    this.commands = [];
    this.results = new Map();
    this.unsaid = new Map();
    this.waits = new Set();
    this.ended = false;
    this.began = clock.now();
    this.posted = new Set(); // commands of the mailbox, which are answered there
    this.link = null;
    if (line !== null) {
      const own = new Lane({ place: this.place, last: () => this.last, url: line.url });
      const found = () => orphans?.(this.stream, line.url) ?? [];
      this.link = new Link({ emitter: this, own, orphans: found, clock, line, key: options.key, tls: options.tls, random });
      this.link.save();
    }
    this.runStart();
    this.link?.begin();
    this.keepDurable();
  }

  /** DLV-2.2 */
  keepDurable() {
    this.durableTimer = this.clock.after(SECOND, () => {
      if (this.place.syncLater) this.place.syncLater();
      else this.place.sync?.();
      this.link?.save();
      if (!this.ended) this.keepDurable();
    });
  }

  warn(text) {
    const before = this.warned.get(text);
    if (before !== undefined && this.clock.now() - before < WARN_AGAIN) return;
    this.warned.set(text, this.clock.now());
    this.tell(`xtrack: warning: ${text}`);
  }

  get isFirst() {
    return ["", "0", "rank0"].includes(this.stream.wid);
  }

  say(text) {
    if (this.isFirst && !this.options.quiet) this.tell(`xtrack: ${text}`);
  }

  runStart() {
    const { experiment_id, parent_id, name, tags, world_size, resume } = this.options;
    const p = new Map();
    p.set(
      "run_id",
      new Map([
        ["id", this.stream.run],
        ...(experiment_id === undefined ? [] : [["exp_id", asText(experiment_id)]]),
        ...(parent_id === undefined ? [] : [["parent_id", asText(parent_id)]]),
      ]),
    );
    if (name !== undefined) p.set("name", asText(name));
    if (tags !== undefined) p.set("tags", this.cleanTags(tags instanceof Map ? tags : new Map(Object.entries(tags))));
    p.set("source", new Map([["entrypoint", process.argv[1] ?? "node"]]));
    p.set("env", new Map([["platform", `${process.platform}-${process.arch}`]]));
    if (resume !== undefined) p.set("resume", resume);
    if (world_size !== undefined) p.set("world_size", BigInt(world_size));
    this.emit("run_start", p);
    this.emit("status", new Map([["status", "running"]]));
    for (const [name, text] of this.wholes.splice(0)) this.attach(name, text);
    this.say(`run ${this.stream.run}`);
  }

  /** EVT-TAGS-2.2 */
  cleanTags(tags) {
    const out = asMap(tags, asText);
    for (const name of [...out.keys()]) {
      if (!name.startsWith("xtrack.") || RESERVED.has(name)) continue;
      out.delete(name);
      this.warn("tags that begin with xtrack. are reserved, and left out");
    }
    return out;
  }

  /** Gives an event its seq and its place. What can't be encoded takes no seq (ENV-4.5); what finds no room does (STR-7.2). */
  emit(t, p) {
    if (!p.has("run_id")) p.set("run_id", this.stream.run);
    const whole = [];
    const cut = (name, text) => whole.push([`${t}-${name}`, text]);
    let payload = this.encode(t, p, cut);
    if (t === "run_end" && whole.length > 0) {
      // Nothing comes behind a run_end (EVT-RUN_END-2.1), so that it takes a later seq.
      for (const [name, text] of whole.splice(0)) this.attach(name, text);
      payload = this.encode(t, p);
    }
    this.last += 1n;
    try {
      this.place.append(this.last, payload);
    } catch (error) {
      if (!(error instanceof Full) && error.code === undefined) throw error;
      // Full or broken: the newest is dropped, and declared (DLV-7).
      this.place.lose(this.last);
      this.dropped += 1;
      this.warn("an event was dropped, as there is no room for it: make some");
    }
    this.link?.pump();
    if (t === "run_start") this.wholes = whole;
    else for (const [name, text] of whole) this.attach(name, text);
  }

  /** The payload of an event with the next seq. */
  encode(t, p, cut) {
    const m = new Map([
      ["seq", this.last + 1n],
      ["ts", BigInt(Math.trunc(this.clock.wall() * 1000))],
    ]);
    if (this.stream.wid !== "") m.set("wid", this.stream.wid);
    m.set("sid", this.stream.sid);
    return fit({ t, m, p }, MAX_EVENT, cut);
  }

  /** FRM-3.13: what was cut is kept whole in a file of its own. */
  attach(name, text) {
    let kept;
    try {
      kept = this.place.attach?.(`${this.stream.sid}-${this.last + 1n}-${name}.txt`, text);
    } catch (error) {
      this.warn(`a text that was cut could not be kept: ${error.message}`);
    }
    if (kept === undefined) return;
    this.emit(
      "artifact",
      this.body({ path: kept.path, type: "log", name, size: BigInt(kept.size), checksum: kept.checksum }),
    );
  }

  /** A call of the training's: nothing of it comes out as an error. */
  guarded(work) {
    if (this.ended) {
      this.refusedCalls += 1;
      this.warn("the run has ended: what is logged now is left out");
      return;
    }
    try {
      work();
    } catch (error) {
      this.refusedCalls += 1;
      const why = error instanceof NoNumber || error instanceof Refused ? error.message : "a value can't be shown";
      this.warn(`an event was left out: ${why}`);
    }
  }

  free(value) {
    return asFree(value, (text) => this.warn(text));
  }

  freeMap(values) {
    return asMap(values, (item) => this.free(item));
  }

  /** A body from what was given; undefined is left out. */
  body(members) {
    return new Map(Object.entries(members).filter(([, value]) => value !== undefined));
  }

  param(key, value) {
    if (!(value instanceof Map) || value.size === 0) {
      this.guarded(() => this.emit("param", this.body({ key: asText(key), value: this.free(value) })));
      return;
    }
    const leaves = (map, path) => {
      for (const [name, item] of map) {
        const here = [...path, asText(name)];
        if (item instanceof Map && item.size > 0 && here.length < 500) leaves(item, here);
        else
          this.guarded(() =>
            this.emit("param", this.body({ key: asText(key), value: this.free(item), nested_key: here })),
          );
      }
    };
    leaves(value, []);
  }

  at({ step, epoch, phase }) {
    const given = (value) => (value === undefined || value === null ? undefined : asInteger(value));
    const ctx = phase === undefined || phase === null ? undefined : new Map([["phase", asText(phase)]]);
    return { step: given(step), epoch: given(epoch), ctx };
  }

  metric(key, value, at = {}) {
    this.guarded(() => this.emit("metric", this.body({ key: asText(key), value: asNumber(value), ...this.at(at) })));
  }

  metrics(values, at = {}) {
    this.guarded(() => {
      if (!(values instanceof Map)) throw new NoNumber("metrics are a map of numbers");
      const where = this.at(at);
      const good = new Map();
      for (const [name, value] of values) {
        try {
          good.set(asText(name), asNumber(value));
        } catch (error) {
          if (!(error instanceof NoNumber)) throw error;
          this.refusedCalls += 1;
          this.warn("a metric value was left out: it is no number");
        }
      }
      if (good.size === 0 && values.size > 0) return;
      for (const part of split(good, MAX_EVENT - 4096))
        this.emit("metric_batch", this.body({ metrics: part, ...where }));
    });
  }

  level(level) {
    if (LEVELS.has(level)) return level;
    this.warn("an unknown level was given: use debug, info, warning or error");
    const name = typeof level === "string" ? level.toLowerCase() : "";
    if (LEVELS.has(name)) return name;
    return Object.hasOwn(OTHER_LEVELS, name) ? OTHER_LEVELS[name] : "info";
  }

  log(msg, level = "info", fields = undefined) {
    this.guarded(() => {
      const map =
        fields instanceof Map
          ? this.freeMap(fields)
          : fields === undefined || fields === null
            ? undefined
            : new Map([["fields", this.free(fields)]]);
      this.emit("log", this.body({ level: this.level(level ?? "info"), msg: asText(msg), fields: map }));
    });
  }

  tags(tags) {
    this.guarded(() => {
      if (!(tags instanceof Map)) throw new NoNumber("tags are a map of texts");
      const clean = this.cleanTags(tags);
      if (clean.size > 0 || tags.size === 0) this.emit("tags", this.body({ tags: clean }));
    });
  }

  status(status, msg) {
    this.guarded(() =>
      this.emit("status", this.body({ status, msg: msg === undefined || msg === null ? undefined : asText(msg) })),
    );
  }

  artifact(path, { type, checksum, meta } = {}) {
    const text = (value) => (value === undefined || value === null ? undefined : asText(value));
    const map = meta instanceof Map ? meta : undefined;
    this.guarded(() =>
      this.emit(
        "artifact",
        this.body({ path: asText(path), type: text(type), meta: map && this.freeMap(map), checksum: text(checksum) }),
      ),
    );
  }

  checkpoint(path, step, metrics) {
    this.guarded(() => {
      const values = metrics instanceof Map ? asMap(metrics, asNumber) : undefined;
      this.emit("checkpoint", this.body({ step: asInteger(step), path: asText(path), metrics: values }));
    });
    this.place.sync?.(); // EVT-CHECKPOINT-2
  }

  alert(title, { text, level, key } = {}) {
    const given = (value, convert) => (value === undefined || value === null ? undefined : convert(value));
    this.guarded(() =>
      this.emit(
        "alert",
        this.body({
          title: asText(title),
          text: given(text, asText),
          level: given(level, (name) => this.level(name)),
          key: given(key, asText),
        }),
      ),
    );
  }

  summary(values) {
    this.guarded(() => {
      if (!(values instanceof Map)) throw new NoNumber("a summary is a map of numbers");
      this.emit("summary", this.body({ values: asMap(values, asNumber) }));
    });
  }

  /** CTL-2: what came for this worker waits until the training looks for it; each cmd_id once. */
  command(p) {
    const run = p.get("run_id");
    if (run !== undefined && run.get("id") !== this.stream.run) return;
    if (p.has("wid") && p.get("wid") !== this.stream.wid) return;
    const id = p.get("cmd_id");
    const before = this.results.get(id);
    if (before !== undefined) {
      if (before.status !== undefined) this.answer(id, before);
      return;
    }
    this.results.set(id, {});
    if (this.ended) this.finishCommand(id, "error", "the run has ended");
    else this.commands.push(p);
  }

  /** The training asks; it is taken as having carried out what it gets. */
  takeCommands() {
    for (const p of this.place.mailbox?.receive() ?? []) {
      this.posted.add(p.get("cmd_id"));
      this.command(p);
    }
    const commands = this.commands;
    this.commands = [];
    for (const p of commands) this.finishCommand(p.get("cmd_id"), "ok");
    return commands;
  }

  finishCommand(id, status, msg) {
    const result = { status, msg };
    this.results.set(id, result);
    this.answer(id, result);
  }

  answer(id, { status, msg }) {
    const { link } = this;
    if (this.posted.has(id)) {
      const { run_id, wid } = named(this.stream);
      this.place.mailbox.answer(id, { run_id, cmd_id: id, status, msg, wid }, this.clock.wall());
      return;
    }
    if (link?.state === "session") {
      const { run_id, wid } = named(this.stream);
      link.write("command_result", { run_id, cmd_id: id, status, msg, wid });
    } else if ((link?.state === "plain" || this.place.isPlainPeer) && !this.ended) {
      // VER-3.1
      const fields = this.body({ cmd_id: id, status, msg });
      this.emit("log", this.body({ level: "info", msg: "command_result", logger: "xtrack", fields }));
    } else if (link !== null) this.unsaid.set(id, { status, msg });
  }

  /** The stream is open again: results that found no connection are said now. */
  opened() {
    const unsaid = [...this.unsaid];
    this.unsaid.clear();
    for (const [id, result] of unsaid) this.answer(id, result);
  }

  /** Calls `done(came)` when `condition` holds, or after a time without it. */
  wait(condition, milliseconds, done) {
    if (condition()) return done(true);
    const wait = { condition, done };
    wait.off = this.clock.after(milliseconds, () => this.settle(wait, condition()));
    this.waits.add(wait);
    return undefined;
  }

  settle(wait, came) {
    if (!this.waits.delete(wait)) return;
    wait.off();
    wait.done(came);
  }

  /** The Link has news. */
  changed() {
    for (const wait of [...this.waits]) if (wait.condition()) this.settle(wait, true);
  }

  flush(until, timeout, done) {
    const durable = until === "accepted" || (this.place.sync?.() ?? false);
    if (until !== "acked" || this.link === null) return done(until === "acked" ? false : durable);
    const longest = timeout === undefined ? END_WAIT : timeout * SECOND;
    return this.wait(
      () => this.link.isAcked,
      longest,
      () => done(this.link.isPromised),
    );
  }

  end({ status = "completed", error, timeout } = {}, done = () => {}) {
    if (this.ended) {
      this.warn("the run has ended already");
      return done();
    }
    for (const p of this.commands.splice(0)) this.finishCommand(p.get("cmd_id"), "error", "the run has ended");
    this.place.release?.();
    const known = STATUSES.has(status) ? status : "failed";
    if (known !== status) this.warn("an unknown status was given: use completed, failed or killed");
    const p = this.body({ status: known, duration_ms: BigInt(Math.trunc(this.clock.now() - this.began)) });
    if (error !== undefined && error !== null) p.set("error", new Map([["message", asText(error)]]));
    else if (known === "failed") p.set("error", new Map([["message", ""]]));
    this.guarded(() => this.emit("run_end", p));
    this.ended = true;
    this.place.sync?.();
    const longest =
      timeout !== undefined && timeout !== null
        ? timeout * SECOND
        : this.link?.welcomed || this.link?.plainSent > 0n
          ? END_WAIT
          : NEVER_REACHED;
    return this.wait(
      () => this.link === null || this.link.delivered,
      longest,
      (came) => {
        this.finish(came);
        done();
      },
    );
  }

  finish(came) {
    const { link } = this;
    if (link !== null) {
      link.end();
      if (!came) this.tell("xtrack: not everything was delivered: it is kept in the spool. `xtrack sync` ships it");
    }
    if (this.dropped > 0) this.tell(`xtrack: ${this.dropped} events were lost`);
    this.place.end?.();
    this.durableTimer();
    this.say(`run ${this.stream.run} has ended`);
  }

  /** Tells the training how its events fare. */
  counts() {
    const { last, link } = this;
    const present = (to) => {
      let count = 0;
      for (let seq = 1n; seq <= to && seq <= last; seq += 1n)
        if (!this.place.lost.has(seq) && !link?.rejected.has(seq)) count += 1;
      return count;
    };
    const accepted = Number(last) - this.dropped;
    const acked = link === null ? 0 : present(link.cursor);
    const unconfirmed = link === null ? 0 : Math.max(0, present(link.plainSent) - acked);
    return {
      accepted,
      dropped: this.dropped,
      refused: this.refusedCalls,
      acked,
      unconfirmed,
      waiting: accepted - acked - unconfirmed,
    };
  }
}
