/**
 * MessagePack (MSG): the same values as json.mjs gives for the same names and structure.
 */

import { MAX_DEPTH } from "./json.mjs";
import { textOf } from "./json.mjs";
import { Refused } from "./refused.mjs";

const bad = (what) => {
  throw new Refused("bad_json", what);
};

/** Reads exactly one value. What is no UTF-8 is told before what is no MessagePack where both are there (ERR-2). */
export function parseMessagePack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let depth = 0;

  const take = (count) => {
    if (bytes.length - at < count) bad("the payload is cut short");
    at += count;
    return at - count;
  };
  const string = (length) => {
    const from = take(length);
    return textOf(bytes.subarray(from, at));
  };
  const enter = () => {
    depth += 1;
    if (depth > MAX_DEPTH) throw new Refused("too_deep", `more than ${MAX_DEPTH} arrays and maps are open`);
  };
  const array = (count) => {
    enter();
    const out = [];
    for (let index = 0; index < count; index += 1) out.push(value());
    depth -= 1;
    return out;
  };
  const map = (count) => {
    enter();
    const out = new Map();
    for (let index = 0; index < count; index += 1) {
      const name = value();
      if (typeof name !== "string") bad("a key is no string");
      out.set(name, value());
    }
    depth -= 1;
    return out;
  };

  function value() {
    const head = bytes[take(1)];
    if (head <= 0x7f) return BigInt(head);
    if (head <= 0x8f) return map(head & 0x0f);
    if (head <= 0x9f) return array(head & 0x0f);
    if (head <= 0xbf) return string(head & 0x1f);
    if (head >= 0xe0) return BigInt(head - 0x100);
    switch (head) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xca:
        return view.getFloat32(take(4));
      case 0xcb:
        return view.getFloat64(take(8));
      case 0xcc:
        return BigInt(view.getUint8(take(1)));
      case 0xcd:
        return BigInt(view.getUint16(take(2)));
      case 0xce:
        return BigInt(view.getUint32(take(4)));
      case 0xcf:
        return view.getBigUint64(take(8));
      case 0xd0:
        return BigInt(view.getInt8(take(1)));
      case 0xd1:
        return BigInt(view.getInt16(take(2)));
      case 0xd2:
        return BigInt(view.getInt32(take(4)));
      case 0xd3:
        return view.getBigInt64(take(8));
      case 0xd9:
        return string(view.getUint8(take(1)));
      case 0xda:
        return string(view.getUint16(take(2)));
      case 0xdb:
        return string(view.getUint32(take(4)));
      case 0xdc:
        return array(view.getUint16(take(2)));
      case 0xdd:
        return array(view.getUint32(take(4)));
      case 0xde:
        return map(view.getUint16(take(2)));
      case 0xdf:
        return map(view.getUint32(take(4)));
      default:
        return bad("bin, ext or the unused type C1");
    }
  }

  const result = value();
  if (at !== bytes.length) bad("something follows the map");
  return result;
}

/** Writes what encode.mjs' wireForm gives. */
export function messagePack(value) {
  const parts = [];
  const number = (head, size, write) => {
    const part = Buffer.allocUnsafe(1 + size);
    part[0] = head;
    if (size > 0) write(part);
    parts.push(part);
  };
  const head = (count, small, limit, heads) => {
    if (count < limit) return parts.push(Buffer.from([small | count]));
    if (heads.length === 3 && count < 0x100) return number(heads[0], 1, (part) => part.writeUInt8(count, 1));
    if (count < 0x10000) return number(heads.at(-2), 2, (part) => part.writeUInt16BE(count, 1));
    return number(heads.at(-1), 4, (part) => part.writeUInt32BE(count, 1));
  };
  const write = (item, depth) => {
    if (item === null) return parts.push(Buffer.from([0xc0]));
    if (typeof item === "boolean") return parts.push(Buffer.from([item ? 0xc3 : 0xc2]));
    if (typeof item === "number") return number(0xcb, 8, (part) => part.writeDoubleBE(item, 1));
    if (typeof item === "bigint") {
      if (item >= -32n && item < 128n) return parts.push(Buffer.from([Number(item) & 0xff]));
      return number(0xd3, 8, (part) => part.writeBigInt64BE(item, 1));
    }
    if (typeof item === "string") {
      const text = Buffer.from(item);
      head(text.length, 0xa0, 32, [0xd9, 0xda, 0xdb]);
      return parts.push(text);
    }
    if (depth >= MAX_DEPTH) throw new Refused("too_deep", `nested more than ${MAX_DEPTH} deep`);
    if (Array.isArray(item)) {
      head(item.length, 0x90, 16, [0xdc, 0xdd]);
      for (const inner of item) write(inner, depth + 1);
      return undefined;
    }
    head(item.size, 0x80, 16, [0xde, 0xdf]);
    for (const [name, inner] of item) {
      write(name, depth + 1);
      write(inner, depth + 1);
    }
    return undefined;
  };
  write(value, 0);
  return Buffer.concat(parts);
}
