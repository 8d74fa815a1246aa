/** Folders that several sessions share: what the suite puts there, and what lies there (emit.files). */

import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { hold, holdBriefly, holdShared, isHeld } from "./locks.mjs";

const folders = new Map();
const held = new Map();

/** The folder of that name: what XTRACK_DIR names for whoever has it; processes work in `work` there. */
export function folderOf(name) {
  if (!folders.has(name)) {
    folders.set(name, mkdtempSync(join(tmpdir(), "xtrack-shared-")));
    mkdirSync(join(folders.get(name), "work"));
  }
  return folders.get(name);
}

function put(path, { bytes, at, locked }) {
  mkdirSync(dirname(path), { recursive: true });
  if (bytes !== undefined && at === undefined) writeFileSync(path, Buffer.from(bytes, "base64"));
  else if (bytes !== undefined) {
    const file = openSync(path, "r+");
    writeSync(file, Buffer.from(bytes, "base64"), 0, undefined, at);
    closeSync(file);
  }
  if (locked === undefined) return;
  held.get(path)?.();
  held.delete(path);
  if (locked === "briefly") holdBriefly(path);
  else if (locked) held.set(path, (locked === "shared" ? holdShared : hold)(path));
}

/** Only these are ever locked; to ask of every file would cost a process each. */
const mayBeLocked = (path) => /\.(lock|shipping)$/.test(path);

export function files({ dir, put: entries = [] }) {
  const root = folderOf(dir);
  for (const entry of entries) put(join(root, entry.path), entry);
  const found = [];
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.endsWith(".tmp")) continue;
    const full = join(entry.parentPath ?? entry.path, entry.name);
    const bytes = readFileSync(full).toString("base64");
    found.push({ path: full.slice(root.length + 1), bytes, locked: mayBeLocked(full) && isHeld(full) });
  }
  return { files: found };
}

export function forgetFolder(name) {
  const root = folders.get(name);
  if (root === undefined) return;
  folders.delete(name);
  for (const [path, release] of held) {
    if (!path.startsWith(`${root}/`)) continue;
    release?.();
    held.delete(path);
  }
  rmSync(root, { recursive: true, force: true });
}
