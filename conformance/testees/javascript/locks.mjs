/** Exclusive locks on files (RST-6.5, DLV-8.4), by flock(1): Node has none of its own. They end with their process. */

import { spawn, spawnSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";

// RST-6.17: somebody may only have looked.
const WAITS = { "-x": ["-w", "0.1"], "-s": ["-n"] };
const flock = (file, how) =>
  spawnSync("flock", [...WAITS[how], how, "3"], { stdio: ["ignore", "ignore", "ignore", file] }).status;

/** Whether the system has that program. Without it there are no locks: each is had for the asking, and nobody sees it. */
export const HAS_LOCKS = spawnSync("flock", ["--version"], { stdio: "ignore" }).status === 0;

/** Takes the lock on a file, which is made where there is none; gives what releases it, or null where another has it. */
export function hold(path) {
  const file = openSync(path, "a+", 0o600);
  if (!HAS_LOCKS || flock(file, "-x") === 0) return () => closeSync(file);
  closeSync(file);
  return null;
}

/** Has another process hold it for a moment; it does when this returns. */
export function holdBriefly(path) {
  spawn("flock", ["-x", path, "sleep", "0.02"], { stdio: "ignore" });
  for (let tries = 0; tries < 20 && !isHeld(path); tries += 1);
}

/** Holds it shared, as whoever only looks; gives what ends that. */
export function holdShared(path) {
  const file = openSync(path, "a+", 0o600);
  flock(file, "-s");
  return () => closeSync(file);
}

export function isHeld(path) {
  if (!HAS_LOCKS) return false;
  let file;
  try {
    file = openSync(path, "r");
  } catch {
    return false;
  }
  const status = flock(file, "-s");
  closeSync(file);
  return status !== 0;
}
