/**
 * One connection of a collector (CTL, VER): what it has sent is taken or refused, and answered.
 *
 * A Peer knows no socket: `wire` has write(bytes), close() and backlog. It is new until its first frame, then a session (with a
 * `welcome`) or plain.
 */

import { control, named } from "./control.mjs";
import { runOf } from "./decode.mjs";
import { isControl } from "./events.mjs";
import { Connection } from "./framer.mjs";
import { parseJson } from "./json.mjs";
import { belongsToNoStream, isDerived, keyOf } from "./streams.mjs";
import { PeerStream } from "./peer_stream.mjs";

const FEATURES = ["commands", "follow"];
const MAX_ID = 1024;
const METHODS = ["GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "];
// A fatal alert: protocol_version.
const TLS_ALERT = Buffer.from([0x15, 3, 1, 0, 2, 2, 70]);

export class Peer {
  constructor(hub, wire, address) {
    Object.assign(this, { hub, wire, address });
    this.number = hub.nextNumber();
    this.source = `connection ${this.number}`;
    this.state = "new";
    this.framer = new Connection({ lenient: true, limit: hub.options.maxFrame });
    this.streams = new Map(); // those it has opened, by key
    this.plain = new Map(); // on a plain connection: streams of which events came
    this.unplaced = []; // classes of errors of frames that told nobody which event they were to be
    this.features = new Set();
    this.key = null;
    this.commands = new Set(); // that it has asked for, and waits for
    this.targets = new Set(); // that it was asked
    this.begunAt = hub.clock.now();
    this.frameSince = null;
    this.lastHeard = hub.clock.now();
    this.lastAnything = hub.clock.now();
  }

  send(type, body = {}) {
    if (this.state !== "closed") this.hub.post(this, type, control(type, body, this.hub.clock.wall()));
  }

  /** Everything that came at once is one transaction of the store (DLV-6.1). */
  receive(bytes) {
    if (this.state === "closed") return;
    this.lastHeard = this.hub.clock.now();
    if (this.state === "new" && this.framer.offset === 0 && this.foreign(bytes)) return;
    const frames = this.framer.feed(bytes);
    const between = this.framer.state === "between";
    if (between) this.frameSince = null;
    else if (this.frameSince === null || frames.length > 0) this.frameSince = this.hub.clock.now();
    this.hub.transaction(this, frames);
    this.hub.boundUnfinished();
  }

  /** CTL-17.8: an answer that who speaks another protocol understands. It shows in the first byte already. */
  foreign(bytes) {
    const text = bytes.subarray(0, 16).toString("latin1");
    let answer;
    if (METHODS.some((method) => text.startsWith(method) || method.startsWith(text))) {
      const body = "This is a collector of XTrack events, no web server.\n";
      answer = `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
    } else if (bytes[0] === 0x16) {
      answer = TLS_ALERT;
    }
    if (answer === undefined) return false;
    this.hub.refuse("frame_too_large", this);
    this.wire.write(Buffer.from(answer));
    this.close();
    return true;
  }

  /** One frame or error. Called within a transaction. */
  take(frame) {
    if (this.state === "closed") return;
    if (frame.error !== undefined) this.bad(frame);
    else if (this.state === "new") this.first(frame);
    else if (this.state === "plain") this.takePlain(frame);
    else this.takeSession(frame);
  }

  first(frame) {
    if (frame.event.t === "hello") {
      this.hub.hello(this, frame.event.p);
    } else if (this.hub.keys !== null) {
      this.reject("unauthorized", "this server requires a key: begin with a hello");
    } else {
      this.state = "plain"; // VER-3.4
      this.takePlain(frame);
    }
  }

  /** VER-2: depends on nothing but the hello and what this server has. */
  welcome(hello, key) {
    this.key = key;
    this.keyHash = key === null ? null : key.given;
    this.features = new Set(FEATURES.filter((name) => (hello.get("features") ?? []).includes(name)));
    this.state = "session";
    this.send("welcome", {
      protocol: 1n,
      codec: "json",
      durability: "power",
      features: [...this.features],
      limits: new Map([["max_frame", BigInt(this.hub.options.maxFrame)]]),
    });
  }

  reject(code, msg, retryAfter) {
    this.hub.refuse(code, this);
    this.send("reject", { code, msg, retry_after: retryAfter });
    this.close();
  }

  bad({ error, fatal, payload }) {
    this.hub.frameRefused();
    if (this.state === "new" || this.state === "session") {
      const hello = this.state === "new" && payload !== undefined && this.loose(payload)?.get("t") === "hello";
      if (fatal || hello) {
        this.reject(error, "this frame can't be read");
        return;
      }
    }
    if (fatal) this.close();
    else if (this.state === "new") {
      if (this.hub.keys !== null) this.reject("unauthorized", "this server requires a key: begin with a hello");
      else this.state = "plain";
    } else if (this.state === "session") this.place(error, payload);
  }

  loose(payload) {
    try {
      const value = parseJson(payload, true);
      return value instanceof Map ? value : undefined;
    } catch {
      return undefined;
    }
  }

  /** CTL-3.12: which event a frame with an error was to be. */
  place(error, payload) {
    const value = this.loose(payload);
    const [meta, body] = [value?.get("m"), value?.get("p")];
    const seq = meta instanceof Map ? meta.get("seq") : undefined;
    if (typeof value?.get("t") === "string" && isControl(value.get("t"))) return;
    if (typeof seq === "bigint" && seq >= 1n && body instanceof Map) {
      const text = (of, name) => (typeof of.get(name) === "string" ? of.get(name) : undefined);
      const stream = this.streamOf(runOf({ p: body }), text(meta, "wid") ?? "", text(meta, "sid"));
      if (stream !== undefined) {
        stream.refuse(seq, error);
        return;
      }
    }
    this.unplaced.push(error);
  }

  /** The stream of an event that is open here, or undefined (CTL-8.3, CTL-8.4). */
  streamOf(run, wid, sid) {
    if (run === undefined) return undefined;
    if (sid !== undefined && sid !== "") return this.streams.get(keyOf(run, wid, sid));
    return [...this.streams.values()].findLast(
      (stream) => stream.run === run && stream.wid === wid && isDerived(stream.sid),
    );
  }

  takePlain({ event, payload }) {
    const { collection } = this.hub.store;
    if (event.t === "command_result") return;
    const what = collection.take(this.source, event, payload);
    if (what === "none") return;
    if (what === "run_deleted" || what === "seq_conflict") this.hub.refuse(what, this);
    if (belongsToNoStream(event)) return;
    const run = runOf(event);
    const wid = event.m.get("wid") ?? "";
    const sid = event.m.get("sid") ?? collection.derived.get(keyOf(this.source, run, wid)) ?? "legacy-0";
    const key = keyOf(run, wid, sid);
    if (what !== "run_deleted") this.plain.set(key, { run, wid, sid });
    this.hub.alive(key);
  }

  takeSession({ event, payload }) {
    const { t, m, p } = event;
    switch (t) {
      case "ping":
        this.send("pong");
        return;
      case "open":
        this.open(p);
        return;
      case "skip":
        this.streamOf(runOf(event), p.get("wid") ?? "", p.get("sid"))?.skip(p.get("from"), p.get("to"));
        return;
      case "subscribe":
        this.hub.subscriptions.begin(this, runOf(event), p.get("from"), p.get("until_end") === true);
        return;
      case "unsubscribe":
        this.hub.subscriptions.end(this, runOf(event));
        return;
      case "command":
        if (this.features.has("commands")) this.hub.router.command(this, event, payload);
        return;
      case "command_result":
        this.hub.router.result(this, p);
        return;
      default:
        if (belongsToNoStream(event)) return; // CTL-1.4
    }
    const stream = this.streamOf(runOf(event), m.get("wid") ?? "", m.get("sid"));
    if (stream === undefined) return;
    this.unplaced = stream.missing(m.get("seq"), this.unplaced);
    stream.take(event, payload);
  }

  open(p) {
    const id = runOf({ p });
    const stream = { run: id, wid: p.get("wid") ?? "", sid: p.get("sid") };
    const key = keyOf(stream.run, stream.wid, stream.sid);
    if (this.streams.has(key)) return; // CTL-8.5
    const refuse = (why) => {
      this.hub.refuse("forbidden", this);
      this.send("ack", { seq: 0n, status: "error", error: `forbidden: ${why}`, ...named(stream) });
    };
    const long = [stream.run, stream.wid, stream.sid].some((text) => Buffer.byteLength(text) > MAX_ID);
    if (long) refuse("an id has more than 1,024 bytes");
    else if (!this.hub.access.claim(this.key, id)) refuse("the key does not cover this run");
    else {
      const opened = new PeerStream(this, stream, p.get("passive") === true);
      this.hub.takeOver(key, opened);
      this.streams.set(key, opened);
      opened.answerOpen();
    }
  }

  /** After the store has committed: what was taken is acked. */
  settle() {
    for (const stream of this.streams.values()) stream.settle();
  }

  /** The other side has closed: what is left is no frame (FRM-5.5). */
  ended() {
    if (this.state !== "closed" && this.framer.finish().length > 0) this.hub.frameRefused();
    this.close();
  }

  close() {
    if (this.state === "closed") return;
    this.hub.flush(this);
    this.state = "closed";
    this.wire.close();
    this.hub.gone(this);
  }
}
