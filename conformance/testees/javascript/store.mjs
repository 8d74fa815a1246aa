/**
 * A store (FLD-12): what a Collection takes, in one file of batches, so that each batch is there as a whole or not at all.
 *
 * A batch is its length and CRC-32, each u32be, and a list of entries in JSON. What is behind the last whole batch is cut off
 * when the store is opened: it was never committed.
 */

import { closeSync, existsSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

import { crc32 } from "./crc.mjs";
import { decode } from "./decode.mjs";
import { Collection } from "./streams.mjs";

const HEAD = 8;

/** Entries hold bigints and bytes, which JSON has no form for. */
const replacer = (_, value) => {
  if (typeof value === "bigint") return { $int: value.toString() };
  return value;
};
const reviver = (_, value) =>
  value !== null && typeof value === "object" && "$int" in value ? BigInt(value.$int) : value;

export class StoreFull extends Error {}

export class Store {
  constructor(folder) {
    this.folder = folder;
    this.batch = [];
    this.trouble = false;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.path = join(folder, "journal");
    this.collection = new Collection((entry) => this.batch.push(entry));
    this.collection.owners = new Map(); // by run: what a server knows of who may do what
    this.load();
  }

  load() {
    const bytes = existsSync(this.path) ? readFileSync(this.path) : Buffer.alloc(0);
    let at = 0;
    while (bytes.length - at >= HEAD) {
      const length = bytes.readUInt32BE(at);
      const body = bytes.subarray(at + HEAD, at + HEAD + length);
      if (body.length < length || crc32(body) !== bytes.readUInt32BE(at + 4)) break;
      for (const entry of JSON.parse(body.toString(), reviver)) this.replay(entry);
      at += HEAD + length;
    }
    this.batch = []; // replaying is no news
    this.file = openSync(this.path, "a", 0o600);
    ftruncateSync(this.file, at);
  }

  replay({ kind, run, wid, sid, source, received, payload, first, last, loss, access }) {
    const { collection } = this;
    if (kind === "event") {
      const bytes = Buffer.from(payload, "base64");
      const event = decode(bytes, { lenient: true, messagepack: true });
      if (event.m.get("sid") === undefined) collection.sessionOf(source, run, event);
      collection.put({ run, wid, sid, source, event, payload: bytes, received });
    } else if (kind === "skip") collection.skipRange(run, wid, sid, first, last);
    else if (kind === "lost") collection.lose(run, wid, sid, loss);
    else if (kind === "expect") collection.expect(run);
    else if (kind === "delete") collection.delete(run);
    else if (kind === "access") collection.owners.set(run, access);
  }

  /** Writes what was taken since the last commit, and forces it to the disk. `always` writes an empty batch, too: a try. */
  commit(always = false) {
    if (this.batch.length === 0 && !always) return;
    if (this.trouble) throw new StoreFull("no space left on device");
    const entries = this.batch.map((entry) =>
      entry.payload === undefined ? entry : { ...entry, payload: Buffer.from(entry.payload).toString("base64") },
    );
    const body = Buffer.from(JSON.stringify(entries, replacer));
    const head = Buffer.alloc(HEAD);
    head.writeUInt32BE(body.length, 0);
    head.writeUInt32BE(crc32(body), 4);
    const bytes = Buffer.concat([head, body]);
    let written = 0;
    while (written < bytes.length) written += writeSync(this.file, bytes, written);
    fsyncSync(this.file);
    this.batch = [];
  }

  /** After a commit that failed: what was taken and not committed has never been. */
  forget() {
    closeSync(this.file);
    this.collection.runs.clear();
    this.collection.deleted.clear();
    this.collection.derived.clear();
    this.collection.owners.clear();
    this.load();
  }

  /** SEC-4: who may do what with a run. */
  setAccess(run, access) {
    this.collection.owners.set(run, access);
    this.batch.push({ kind: "access", run, access });
  }

  close() {
    closeSync(this.file);
  }
}
