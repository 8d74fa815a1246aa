/** Where an emitter keeps its events: the spool, read again when they are sent (DLV-8, DLV-8.1). In memory is only where each lies. */

import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";

import { control, named } from "./control.mjs";
import { Ranges } from "./ranges.mjs";
import { fileName } from "./spool.mjs";
import { makeFolder, plainJson, replaceFile, StreamWriter } from "./spool_writer.mjs";

export class Full extends Error {}

export class SpoolPlace {
  constructor(root, stream, clock) {
    this.stream = stream;
    this.clock = clock;
    this.writer = new StreamWriter(root, stream, () => BigInt(Math.trunc(clock.wall() * 1000)));
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
    if (this.full) throw new Full("there is no room");
    this.declare();
    this.where.set(seq, this.writer.append(seq, payload));
    this.dirty = true;
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
  }

  read(seq) {
    const { path, offset, length } = this.where.get(seq);
    const file = openSync(path, "r");
    try {
      const out = Buffer.alloc(length);
      readSync(file, out, 0, length, offset);
      return out;
    } finally {
      closeSync(file);
    }
  }

  /** Whether everything is on the disk now (DLV-2). */
  sync() {
    try {
      if (this.dirty) this.writer.sync();
      this.dirty = false;
    } catch {
      this.broken = true;
    }
    return !this.broken;
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
    const { run, wid, sid } = this.stream;
    const object = new Map([["run_id", run], ...(wid === "" ? [] : [["wid", wid]]), ["sid", sid], ["note", members]]);
    replaceFile(join(this.writer.folder), `${fileName(sid)}.ship`, Buffer.from(plainJson(object)));
  }

  end() {
    this.writer.end();
  }
}
