/**
 * A collector of many connections: store, open streams, keys, subscriptions and commands. Knows no socket, and takes its time from
 * a clock, real or virtual.
 */

import { Access } from "./access.mjs";
import { Unreadable } from "./keys.mjs";
import { Router } from "./router.mjs";
import { StoreFull } from "./store.mjs";
import { keyOf } from "./streams.mjs";
import { Subscriptions } from "./subscriptions.mjs";
import { named } from "./control.mjs";

const SECOND = 1000;
const RETRY = 0.1 * SECOND;
const PATIENCE = 10; // wrong keys of an address, after which it waits

export const USUAL = {
  maxFrame: 1_048_576,
  firstFrame: 5 * SECOND,
  frame: 30 * SECOND,
  ping: 20 * SECOND,
  idle: 60 * SECOND,
  gone: 300 * SECOND,
  command: 30 * SECOND,
  connections: 1000,
  subscriptions: 64,
  unfinished: 64 * 1_048_576,
  held: 16 * 1_048_576,
};

export class Hub {
  constructor({ store, clock, keys = null, options = {} }) {
    Object.assign(this, { store, clock, keys });
    this.options = { ...USUAL, ...options };
    this.access = new Access(this);
    this.router = new Router(this);
    this.subscriptions = new Subscriptions(this);
    this.peers = new Set();
    this.open = new Map(); // by stream: the PeerStream that has it open
    this.farewells = new Map(); // by stream: calls off that its worker is lost
    this.refused = {};
    this.frames = 0;
    this.lines = [];
    this.numbers = 0;
    this.held = []; // what came of plain connections while the store could not be written
    this.wrongKeys = new Map();
    this.outbox = null; // what is said within a transaction, which waits for its commit
    this.stopping = false;
    this.troubled = false;
    this.expectWorkers();
  }

  nextNumber() {
    this.numbers += 1;
    return this.numbers;
  }

  log(text) {
    this.lines.push(`${new Date(this.clock.wall()).toISOString()} ${text}`);
    if (this.lines.length > 10_000) this.lines.shift();
  }

  /** SEC-5: by its code, and without a key. */
  refuse(code, peer) {
    this.refused[code] = (this.refused[code] ?? 0) + 1;
    this.log(`refused ${peer.address}: ${code}`);
  }

  /** ERR-4.3 */
  frameRefused() {
    this.frames += 1;
  }

  connect(peer) {
    this.peers.add(peer);
    if (this.peers.size > this.options.connections) peer.reject("busy", "too many connections", 1);
  }

  /** CTL-5.2, SEC-2, VER-2. */
  hello(peer, hello) {
    const auth = hello.get("auth");
    let key = null;
    if (this.keys !== null) {
      const wait = this.waitOf(peer.address);
      if (wait > 0) return peer.reject("busy", "too many wrong keys came from there", wait);
      try {
        key = auth?.get("scheme") === "key" && auth.has("key") ? this.keys.find(auth.get("key")) : null;
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        this.log("the keys can't be read");
        return peer.reject("busy", "the server can't read its keys", 1);
      }
      if (key === null) {
        this.countWrongKey(peer.address);
        return peer.reject("unauthorized", "this server requires a key that it knows");
      }
    }
    if (!hello.get("protocols").includes(1n)) return peer.reject("unsupported_version", "this server speaks version 1");
    return peer.welcome(hello, key);
  }

  /** CTL-17.4: seconds for which no key of an address is looked at. */
  waitOf(address) {
    const until = this.wrongKeys.get(address)?.until ?? 0;
    return Math.max(0, (until - this.clock.now()) / SECOND);
  }

  countWrongKey(address) {
    const entry = this.wrongKeys.get(address) ?? { count: 0, until: 0 };
    entry.count += 1;
    if (entry.count >= PATIENCE) entry.until = this.clock.now() + Math.min(60, 2 ** (entry.count - PATIENCE)) * SECOND;
    this.wrongKeys.set(address, entry);
    if (this.wrongKeys.size > 10_000) this.wrongKeys.delete(this.wrongKeys.keys().next().value);
  }

  /** All frames that came at once are taken and committed, or nothing of them; then the peers hear of it. */
  transaction(peer, frames) {
    if (frames.length === 0) return;
    if (this.troubled && peer.state === "plain") {
      this.hold(peer, frames);
      return;
    }
    this.outbox = [];
    for (const frame of frames) peer.take(frame);
    this.commit(() => this.hold(peer, peer.state === "plain" ? frames : []));
  }

  /** Sends a frame, behind the commit of the transaction that is under way (CTL-3.1). */
  post(peer, type, bytes) {
    if (this.outbox === null) peer.wire.write(bytes);
    else this.outbox.push({ peer, type, bytes });
  }

  /** What waits for the commit goes out; of one peer alone where that is to be closed, without acks where nothing was committed. */
  flush(only = null, committed = only === null) {
    if (this.outbox === null) return;
    const waiting = this.outbox;
    this.outbox = only === null ? null : waiting.filter(({ peer }) => peer !== only);
    for (const { peer, type, bytes } of waiting) {
      if ((only === null || peer === only) && (committed || type !== "ack") && peer.state !== "closed")
        peer.wire.write(bytes);
    }
  }

  /** Commits, and tells; where the store refuses, everybody waits. `failed` is called after what was taken is forgotten. */
  commit(failed = () => {}) {
    try {
      this.store.commit();
    } catch (error) {
      if (!(error instanceof StoreFull) && error.code === undefined) throw error;
      this.store.forget();
      this.flush(null, false);
      this.beginTrouble();
      failed();
      return;
    }
    this.flush();
    for (const peer of this.peers) peer.settle();
    this.subscriptions.pump();
  }

  /** CTL-17.6: what plain connections brought is kept, as it won't be sent again. Beyond a bound nothing more is read. */
  hold(peer, frames) {
    for (const frame of frames) this.held.push([peer, frame]);
    const size = this.held.reduce((sum, [, { payload }]) => sum + (payload?.length ?? 0), 0);
    if (size > this.options.held) peer.wire.pause?.();
  }

  beginTrouble() {
    if (!this.troubled) {
      this.troubled = true;
      this.log("the store can't be written");
      for (const { streams } of this.peers)
        for (const stream of streams.values()) if (!stream.fenced) stream.tellTrouble();
    }
    this.clock.after(RETRY, () => this.tryAgain());
  }

  tryAgain() {
    if (this.stopping || !this.troubled) return;
    const held = this.held;
    try {
      for (const [peer, frame] of held) if (frame.event !== undefined) peer.takePlain(frame);
      this.store.commit(true);
    } catch (error) {
      if (!(error instanceof StoreFull) && error.code === undefined) throw error;
      this.store.forget();
      this.clock.after(RETRY, () => this.tryAgain());
      return;
    }
    this.held = [];
    this.troubled = false;
    this.log("the store can be written again");
    for (const peer of this.peers) {
      peer.wire.resume?.();
      for (const stream of peer.streams.values()) if (stream.waiting === "trouble" && !stream.fenced) stream.goOn();
    }
    this.subscriptions.pump();
  }

  /** CTL-13: a stream has one writer, the newest. What the older one sent is committed: each transaction is. */
  takeOver(key, stream) {
    const older = this.open.get(key);
    stream.key = key;
    this.open.set(key, stream);
    this.alive(key);
    if (older === undefined || older.peer === stream.peer) return;
    older.fenced = true;
    this.log(`fenced ${older.peer.address}`);
    if (older.peer.streams.size === 1) older.peer.reject("fenced", "another connection has opened the stream");
    else
      older.peer.send("ack", {
        seq: older.acked < 0n ? 0n : older.acked,
        status: "error",
        error: "fenced",
        ...named(older),
      });
  }

  /** CTL-17.10: a stream's connection is its worker's sign of life. */
  alive(key) {
    this.farewells.get(key)?.();
    this.farewells.delete(key);
  }

  farewell(stream) {
    const key = keyOf(stream.run, stream.wid, stream.sid);
    this.alive(key);
    const { collection } = this.store;
    const of = () => collection.known(stream.run)?.find(stream.wid, stream.sid);
    const isOver = () => of() === undefined || [...of().events.values()].some(({ event }) => event.t === "run_end");
    if (isOver()) return;
    const lose = () => {
      this.farewells.delete(key);
      if (isOver()) return;
      const loss = {
        at: BigInt(Math.trunc(this.clock.wall())) * 1000n,
        reason: "vanished",
        afterSeq: of().has.greatest,
      };
      collection.lose(stream.run, stream.wid, stream.sid, loss);
      this.commit();
    };
    this.farewells.set(key, this.clock.after(this.options.gone, lose));
  }

  /** Workers whose connections ended with the server before this one. */
  expectWorkers() {
    for (const run of this.store.collection.runs.values()) {
      for (const { wid, sid, losses } of run.streams.values())
        if (losses.length === 0) this.farewell({ run: run.id, wid, sid });
    }
  }

  /** A connection has ended. */
  gone(peer) {
    if (!this.peers.delete(peer)) return;
    this.subscriptions.forget(peer);
    this.router.forget(peer);
    for (const [key, stream] of peer.streams) {
      if (this.open.get(key) !== stream) continue;
      this.open.delete(key);
      this.farewell(stream);
    }
    for (const stream of peer.plain.values()) this.farewell(stream);
  }

  /** SEC-2.7: ends the sessions whose key holds no longer. */
  checkKeys() {
    let keys;
    try {
      keys = this.keys.read();
    } catch {
      return;
    }
    for (const peer of [...this.peers]) {
      if (peer.key === null || peer.state !== "session") continue;
      const now = keys[peer.key.id];
      const hashes = [now?.hash];
      if (now?.old !== undefined && now.old.until > this.clock.wall()) hashes.push(now.old.hash);
      if (!hashes.includes(peer.keyHash)) peer.reject("unauthorized", "the key holds no longer");
    }
  }

  deleteRun(id) {
    this.store.collection.delete(id);
    this.store.setAccess(id, null);
    this.commit();
    this.subscriptions.deleted(id);
  }

  /** CTL-17.3: the connection whose frame was begun first is given up. */
  boundUnfinished() {
    const begun = [...this.peers].filter(({ frameSince }) => frameSince !== null);
    let size = begun.reduce((sum, { framer }) => sum + framer.pending.length, 0);
    begun.sort((a, b) => a.frameSince - b.frameSince || a.number - b.number);
    while (size > this.options.unfinished && begun.length > 0) {
      const peer = begun.shift();
      size -= peer.framer.pending.length;
      if (peer.state === "plain") peer.close();
      else peer.reject("busy", "too much is under way", 1);
    }
  }

  /** Deadlines (CTL-10, CTL-14); called every now and then. */
  tick() {
    const { firstFrame, frame, ping, idle } = this.options;
    const now = this.clock.now();
    for (const peer of [...this.peers]) {
      if (peer.state === "new" && now - peer.begunAt >= firstFrame)
        peer.reject("timeout", "the first frame was not complete");
      else if (peer.frameSince !== null && now - peer.frameSince >= frame) {
        if (peer.state === "plain") peer.close();
        else peer.reject("timeout", "a frame was not complete");
      } else if (peer.state === "session") {
        if (now - peer.lastHeard >= idle) peer.close();
        else if (now - peer.lastHeard >= ping && now - (peer.pinged ?? -Infinity) >= ping) {
          peer.pinged = now;
          peer.send("ping");
        }
      }
    }
    this.subscriptions.checkRights();
  }

  /** CTL-17.9: everything that was taken is committed already. */
  stop() {
    this.stopping = true;
    for (const peer of [...this.peers]) {
      if (peer.state === "plain") peer.close();
      else peer.reject("busy", "the server stops", 1);
    }
    for (const off of this.farewells.values()) off();
  }
}
