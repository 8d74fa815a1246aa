/** Where an emitter keeps its events: the spool, read again when they are sent (DLV-8, DLV-8.1). In memory is only where each lies. */

import { createHash } from "node:crypto";
import { closeSync, existsSync, fsync, fsyncSync, openSync, readSync, statfsSync } from "node:fs";
import { join } from "node:path";

import { control, named } from "./control.mjs";
import { crc32 } from "./crc.mjs";
import { hold, isHeld } from "./locks.mjs";
import { Mailbox } from "./mailbox.mjs";
import { Ranges } from "./ranges.mjs";
import { OVERHEAD, RECORD_HEAD } from "./segment.mjs";
import { fileName, Spool } from "./spool.mjs";
import { makeFolder, plainJson, replaceFile, StreamWriter } from "./spool_writer.mjs";

const GIB = 2 ** 30;
const SECOND = 1000;

function writeNote(folder, { run, wid, sid }, members) {
  const object = new Map([["run_id", run], ...(wid === "" ? [] : [["wid", wid]]), ["sid", sid], ["note", members]]);
  replaceFile(folder, `${fileName(sid)}.ship`, Buffer.from(plainJson(object)));
}

export class Full extends Error {}

export class SpoolPlace {
  /** `collector`: it only waits for one. `locks`: others look at this folder; each costs a process, so that it is said. */
  constructor(root, stream, clock, { collector = true, locks = false, disk = DISK } = {}) {
    this.stream = stream;
    this.clock = clock;
    const now = () => BigInt(Math.trunc(clock.wall() * 1000));
    this.writer = new StreamWriter(root, stream, now);
    const base = join(this.writer.folder, fileName(stream.sid));
    // RST-6.5, DLV-8.4
    this.locks = locks ? [hold(`${base}.lock`), ...(collector ? [hold(`${base}.shipping`)] : [])] : [];
    this.mailbox = new Mailbox(join(this.writer.folder, "commands"), stream.sid, now());
    this.root = root;
    this.disk = disk;
    this.forcing = false;
    this.leavesRoom = collector; // DLV-5.2
    this.looked = -Infinity;
    this.where = new Map();
    this.lost = new Ranges();
    this.undeclared = new Ranges();
    this.full = false;
    this.reserve = true; // room kept back for the end (DLV-7.2)
    this.dirty = false;
    this.broken = false; // bytes could not be forced to the disk: nothing is durable any more (DLV-2.1)
  }

  /** Keeps an event, or raises. A loss that no record tells of yet is told of first. */
  append(seq, payload) {
    if (this.full || this.isShort()) throw new Full("there is no room");
    this.declare();
    this.where.set(seq, this.writer.append(seq, payload));
    this.dirty = true;
  }

  /** Whether so little of the disk is free that it is left to others; it is asked at most once a second. */
  isShort() {
    if (!this.leavesRoom) return false;
    if (this.clock.now() >= this.looked + SECOND) {
      this.looked = this.clock.now();
      const { total, free } = this.disk.room(this.root);
      this.short = free < Math.min(GIB, total * 0.05);
    }
    return this.short;
  }

  declare() {
    for (const [first, last] of this.undeclared.pairs) {
      const frame = control(
        "skip",
        { ...named(this.stream), from: first, to: last, reason: "no room" },
        this.clock.wall(),
      );
      this.writer.append(0n, frame.subarray(4));
    }
    this.undeclared = new Ranges();
  }

  lose(seq) {
    this.lost.add(seq);
    this.undeclared.add(seq);
  }

  /** Gives up the room that was kept back. */
  release() {
    if (this.reserve) this.full = false;
    this.reserve = false;
    this.leavesRoom = false;
  }

  /** The payload as it stands in the spool; null where it doesn't hold any more. */
  read(seq) {
    const { path, offset, length } = this.where.get(seq);
    const file = openSync(path, "r");
    try {
      const out = Buffer.alloc(length + OVERHEAD);
      readSync(file, out, 0, out.length, offset - RECORD_HEAD);
      const payload = out.subarray(RECORD_HEAD, RECORD_HEAD + length);
      return crc32(payload, out.readUInt32BE(16)) === out.readUInt32BE(RECORD_HEAD + length) ? payload : null;
    } finally {
      closeSync(file);
    }
  }

  /** Whether everything is on the disk now (DLV-2). */
  sync() {
    try {
      if (this.dirty || this.forcing) this.writer.sync(this.disk.force);
      this.dirty = false;
    } catch {
      this.broken = true;
    }
    return !this.broken;
  }

  /** DLV-2.2: the same, for which nobody waits. */
  syncLater() {
    if (!this.dirty || this.forcing) return;
    this.dirty = false;
    this.forcing = true;
    this.writer.syncLater(this.disk.forceLater, (error) => {
      this.forcing = false;
      if (error) this.broken = true;
    });
  }

  /** A file beside the segments (RST-6, `attachments/`); undefined where there is no room. */
  attach(name, text) {
    if (this.full) return undefined;
    const bytes = Buffer.from(text);
    const folder = makeFolder(this.writer.folder, "attachments");
    replaceFile(folder, name, bytes);
    const checksum = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    return { path: join(folder, name), size: bytes.length, checksum };
  }

  /** RST-9: how far a collector has it. */
  note(members) {
    writeNote(this.writer.folder, this.stream, members);
  }

  end() {
    this.writer.end();
    for (const release of this.locks.splice(0)) release?.();
  }
}

/** The disk as it is. */
const DISK = {
  force: fsyncSync,
  forceLater: fsync,
  room(path) {
    const { blocks, bavail, bsize } = statfsSync(path);
    return { total: blocks * bsize, free: bavail * bsize };
  },
};

/** What somebody else has left in a spool: read once, and held against all others who would ship it. */
export class LeftPlace {
  constructor(found, release) {
    this.stream = { run: found.run, wid: found.wid, sid: found.sid };
    this.folder = found.folder;
    this.noted = found.note;
    this.release = release;
    this.payloads = new Map();
    const told = new Ranges();
    for (const { items } of found.segments) {
      for (const { seq, event, payload } of items) {
        if (seq > 0n) told.add(seq);
        if (event?.t === "skip") told.add(event.p.get("from"), event.p.get("to"));
        else if (event !== undefined) this.payloads.set(seq, payload);
      }
    }
    const known = [told.greatest, found.trimmed, found.lost?.afterSeq ?? 0n];
    this.last = known.reduce((a, b) => (a > b ? a : b));
    const here = new Ranges();
    for (const seq of this.payloads.keys()) here.add(seq);
    this.lost = this.last < 1n ? new Ranges() : new Ranges([[1n, this.last]]).minus(here);
  }

  read(seq) {
    return this.payloads.get(seq) ?? null;
  }

  note(members) {
    writeNote(this.folder, this.stream, members);
  }

  end() {
    this.release?.();
    this.release = null;
  }
}

const baseOf = ({ folder, sid }) => join(folder, fileName(sid));

/** The streams of a spool, each with the right to ship it, or null where another has that (DLV-8.4). */
export function* leftIn(root, wanted) {
  const spool = new Spool(root);
  for (const found of spool.streams.values()) {
    if (spool.deleted.has(found.run) || !wanted(found)) continue;
    const release = hold(`${baseOf(found)}.shipping`);
    yield { found, place: release === null ? null : new LeftPlace(found, release) };
  }
}

export const isAlive = (found) => existsSync(`${baseOf(found)}.lock`) && isHeld(`${baseOf(found)}.lock`);
