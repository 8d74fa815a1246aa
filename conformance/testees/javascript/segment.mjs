/** Segments: checked records at rest (RST-2 to RST-5), and how files are told apart (RST-8). */

import { randomBytes } from "node:crypto";

import { crc32 } from "./crc.mjs";
import { decode } from "./decode.mjs";
import { parseJson } from "./json.mjs";
import { MAX_PAYLOAD } from "./encode.mjs";
import { isInt64 } from "./numbers.mjs";
import { Refused } from "./refused.mjs";

export const MAGIC = Buffer.from("XTRKSEG1");
const RECORD_MAGIC = Buffer.from([0xf5, 0x58, 0x52, 0x31]);
export const BLOCK = 4096;
export const FIRST_RECORD = 2 * BLOCK;
export const OVERHEAD = 24;
export const RECORD_HEAD = 20;
const SALT = /^[0-9a-fA-F]{8}$/;

/** What absent members of the body read as; null is absence (JSN-6). */
function headerOf(body) {
  if (!(body instanceof Map)) return null;
  const get = (name, usual) => body.get(name) ?? usual;
  const header = {
    run_id: get("run_id"),
    wid: get("wid", ""),
    sid: get("sid"),
    number: get("number", 1n),
    first_seq: get("first_seq", 1n),
    created: get("created", 0n),
    salt: get("salt", "00000000"),
  };
  const integral = (name) => {
    const value = header[name];
    if (typeof value === "number" && Number.isInteger(value)) header[name] = BigInt(value);
    return isInt64(header[name]);
  };
  const texts = ["run_id", "wid", "sid", "salt"].every((name) => typeof header[name] === "string");
  if (!texts || !SALT.test(header.salt) || !["number", "first_seq", "created"].every(integral)) return null;
  return header;
}

function readBlock(block) {
  if (block.length < 16 || !block.subarray(0, 8).equals(MAGIC)) return null;
  const length = block.readUInt32BE(8);
  if (length > BLOCK - 16 || block.length < 16 + length) return null;
  if (block.readUInt32BE(12 + length) !== crc32(block.subarray(0, 12 + length))) return null;
  try {
    return headerOf(parseJson(block.subarray(12, 12 + length)));
  } catch (error) {
    if (error instanceof Refused) return null;
    throw error;
  }
}

/** RST-2.1: the header of the first block that holds, or null. */
export const readHeader = (bytes) =>
  readBlock(bytes.subarray(0, BLOCK)) ?? readBlock(bytes.subarray(BLOCK, FIRST_RECORD));

/** "segment", "plain" or "unknown" (RST-8). */
export function kindOf(bytes) {
  const has = (at) => bytes.subarray(at, at + 8).equals(MAGIC);
  if (has(0) || has(BLOCK)) return "segment";
  return bytes.length === 0 || bytes[0] === 0 ? "plain" : "unknown";
}

/** Reads records as they are appended. `finish` says that the file ends here. */
export class SegmentReader {
  constructor(header, options = { lenient: true }) {
    this.salt = parseInt(header.salt, 16);
    this.options = options;
    this.bytes = Buffer.alloc(0);
    this.offset = FIRST_RECORD;
  }

  feed(bytes) {
    this.bytes = Buffer.concat([this.bytes, bytes]);
    return this.run(false);
  }

  finish() {
    return this.run(true);
  }

  run(last) {
    const items = [];
    for (let item = this.next(last); item !== null; item = this.next(last)) {
      items.push({ offset: this.offset, ...item });
      this.bytes = this.bytes.subarray(item.length);
      this.offset += item.length;
    }
    return items;
  }

  /** Whether magic and header CRC hold at an index. */
  hasHead(at) {
    const { bytes } = this;
    if (bytes.length - at < RECORD_HEAD || !bytes.subarray(at, at + 4).equals(RECORD_MAGIC)) return false;
    return bytes.readUInt32BE(at + 16) === crc32(bytes.subarray(at, at + 16), this.salt);
  }

  next(last) {
    const { bytes } = this;
    const left = bytes.length;
    if (left === 0) return null;
    const torn = last ? { length: left, torn: true } : null;
    if (bytes[0] === 0 && bytes.every((byte) => byte === 0)) return torn;
    if (left < RECORD_HEAD) {
      const magic = bytes.subarray(0, 4).equals(RECORD_MAGIC.subarray(0, Math.min(4, left)));
      return magic ? torn : this.damage(last); // RST-5: what stands behind the magic is known by its CRC alone
    }
    if (!this.hasHead(0)) return this.damage(last);
    const length = bytes.readUInt32BE(4);
    const seq = bytes.readBigInt64BE(8);
    if (!isLegal(length)) return this.damage(last, seq);
    const whole = OVERHEAD + length;
    if (left < whole) return torn;
    const payload = bytes.subarray(RECORD_HEAD, RECORD_HEAD + length);
    if (bytes.readUInt32BE(RECORD_HEAD + length) !== crc32(payload, bytes.readUInt32BE(16)))
      return this.damage(last, seq);
    return { length: whole, seq, payload: Buffer.from(payload), ...this.judge(payload) };
  }

  judge(payload) {
    try {
      return { event: decode(payload, this.options) };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return { error: error.kind };
    }
  }

  /** RST-5.3, RST-5.4. While the file is being written, the place where damage ends may still come. */
  damage(last, seq = null) {
    let at = this.bytes.indexOf(RECORD_MAGIC, 1);
    while (at >= 0 && !this.hasHead(at)) at = this.bytes.indexOf(RECORD_MAGIC, at + 1);
    if (at < 0 && !last) return null;
    return { length: at < 0 ? this.bytes.length : at, damage: true, seq };
  }
}

const isLegal = (length) => length >= 1 && length <= MAX_PAYLOAD;

/** A whole segment: its header, or null, and its items. */
export function readSegment(bytes, options) {
  const header = readHeader(bytes);
  if (header === null) return { header: null, items: [] };
  const reader = new SegmentReader(header, options);
  return { header, items: [...reader.feed(bytes.subarray(FIRST_RECORD)), ...reader.finish()] };
}

/** Makes segments. The salt is new for each (RST-4). */
export class SegmentWriter {
  constructor({ run_id, wid, sid, number = 1, first_seq, created }) {
    this.salt = randomBytes(4);
    const salt = this.salt.toString("hex");
    const members = [
      ["run_id", run_id],
      ["wid", wid === "" ? undefined : wid],
      ["sid", sid],
      ["number", number],
      ["first_seq", first_seq],
      ["created", created],
      ["salt", salt],
    ];
    const told = ([name, value]) => `"${name}":${typeof value === "string" ? JSON.stringify(value) : value}`;
    const text = Buffer.from(
      `{${members
        .filter(([, value]) => value !== undefined)
        .map(told)
        .join(",")}}`,
    );
    if (text.length > BLOCK - 16) throw new Refused("bad_value", "the ids don't fit into a segment's header");
    const block = Buffer.alloc(BLOCK);
    MAGIC.copy(block);
    block.writeUInt32BE(text.length, 8);
    text.copy(block, 12);
    block.writeUInt32BE(crc32(block.subarray(0, 12 + text.length)), 12 + text.length);
    this.header = Buffer.concat([block, block]);
  }

  record(seq, payload) {
    if (!isLegal(payload.length)) throw new Refused("frame_too_large", "no record can hold it");
    const out = Buffer.alloc(OVERHEAD + payload.length);
    RECORD_MAGIC.copy(out);
    out.writeUInt32BE(payload.length, 4);
    out.writeBigInt64BE(seq, 8);
    const head = crc32(out.subarray(0, 16), this.salt.readUInt32BE(0));
    out.writeUInt32BE(head, 16);
    payload.copy(out, RECORD_HEAD);
    out.writeUInt32BE(crc32(payload, head), RECORD_HEAD + payload.length);
    return out;
  }
}
