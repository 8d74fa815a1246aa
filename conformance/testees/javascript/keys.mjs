/** Keys and owners (SEC-1 to SEC-3). Of a secret nothing is kept but the SHA-256 of its key. */

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";

const KEY = /^xtk_([a-z0-9]{1,32})_(.+)$/;
// SEC-1.1: control characters, line and paragraph separators, marks that change the direction of text.
const FORBIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

const digest = (text) => createHash("sha256").update(text).digest();

export class Unreadable extends Error {}

/** Why nobody can be called so, or undefined. */
export function badOwner(name) {
  const length = Buffer.byteLength(name);
  if (length < 1 || length > 200) return "a name has 1 to 200 bytes";
  if (!name.isWellFormed() || FORBIDDEN.test(name)) return "a name holds no control characters";
  if (/^\s|\s$/u.test(name)) return "a name neither begins nor ends with white space";
  return undefined;
}

export class KeyRing {
  constructor(path, clock) {
    this.path = path;
    this.clock = clock;
  }

  /** By id: {owner, rights, experiment, hash, old: {hash, until}}. Read each time, so that a change holds at once (SEC-2.6). */
  read() {
    if (!existsSync(this.path)) return {};
    try {
      const keys = JSON.parse(readFileSync(this.path, "utf-8"));
      if (typeof keys !== "object" || keys === null || Array.isArray(keys)) throw new SyntaxError("no object");
      return keys;
    } catch (error) {
      throw new Unreadable(error.message);
    }
  }

  /** Reads, changes and writes in one step of this process, the only one that changes this file (SEC-2.2). */
  change(work) {
    const keys = this.read();
    const result = work(keys);
    writeFileSync(`${this.path}.new`, JSON.stringify(keys), { mode: 0o600 });
    renameSync(`${this.path}.new`, this.path);
    return result;
  }

  secret(id) {
    return `xtk_${id}_${randomBytes(32).toString("base64url")}`;
  }

  add({ owner, rights, experiment }) {
    const why = badOwner(owner);
    if (why !== undefined) return { refused: why };
    const id = randomBytes(6).toString("hex");
    const key = this.secret(id);
    this.change((keys) => {
      keys[id] = { owner, rights, experiment, hash: digest(key).toString("hex") };
    });
    return { id, key };
  }

  remove(id) {
    this.change((keys) => delete keys[id]);
  }

  replace(id, grace) {
    const key = this.secret(id);
    this.change((keys) => {
      const entry = keys[id];
      entry.old = grace > 0 ? { hash: entry.hash, until: this.clock.wall() + grace * 1000 } : undefined;
      entry.hash = digest(key).toString("hex");
    });
    return { id, key };
  }

  /** The entry of a key that holds now, or null: the same comparison for an unknown id and for a wrong secret (SEC-2.5). */
  find(key) {
    const keys = this.read();
    const id = KEY.exec(key)?.[1] ?? "";
    const entry = Object.hasOwn(keys, id) ? keys[id] : undefined;
    const given = digest(key);
    const nobody = Buffer.alloc(32);
    const same = (hash) => timingSafeEqual(given, hash === undefined ? nobody : Buffer.from(hash, "hex"));
    const old = entry?.old !== undefined && entry.old.until > this.clock.wall() ? entry.old.hash : undefined;
    const [now, before] = [same(entry?.hash), same(old)];
    return entry !== undefined && (now || before) ? { id, ...entry, given: given.toString("hex") } : null;
  }

  /** As damage would leave it, for tests; and mended. */
  damage(on) {
    if (on) {
      renameSync(this.path, `${this.path}.whole`);
      writeFileSync(this.path, "{");
    } else {
      rmSync(this.path, { force: true });
      renameSync(`${this.path}.whole`, this.path);
    }
  }

  kept() {
    return existsSync(this.path) ? readFileSync(this.path) : Buffer.alloc(0);
  }
}
