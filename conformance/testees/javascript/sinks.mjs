/** Places that are no spool: a plain file, a descriptor, and none (EMT-1, EMT-2, RST-1). What they took can't be read again. */

import { closeSync, fstatSync, fsyncSync, openSync, readdirSync, readFileSync, readlinkSync, writeSync } from "node:fs";
import { Socket } from "node:net";

import { frame } from "./encode.mjs";
import { Connection } from "./framer.mjs";
import { hold } from "./locks.mjs";
import { plainForm } from "./plain.mjs";
import { Ranges } from "./ranges.mjs";
import { fileName } from "./spool.mjs";

class Sink {
  constructor(stream) {
    this.stream = stream;
    this.lost = new Ranges();
  }

  lose(seq) {
    this.lost.add(seq);
  }
}

export class Nowhere extends Sink {
  append() {}
}

/** Whole frames, each with a single write where the system takes it whole (RST-1.2). */
class Frames extends Sink {
  append(seq, payload) {
    const bytes = frame(payload);
    let written = 0;
    while (written < bytes.length) {
      try {
        written += writeSync(this.file, bytes, written);
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
      }
    }
  }
}

export class PlainFile extends Frames {
  /** RST-1.3: one process a file; others of the run have one of their own. */
  constructor(path, stream, warn) {
    super(stream);
    const others = [path, `${path}.${fileName(stream.wid || stream.sid)}`, `${path}.${fileName(stream.sid)}`];
    for (const own of others) {
      this.release = hold(own);
      if (this.release === null) continue;
      if (own !== path) warn(`another process writes to ${path}: this one writes to ${own}`);
      this.file = openSync(own, "a", 0o666);
      return;
    }
    throw Object.assign(new Error(`other processes write to ${path}`), { code: "EBUSY" });
  }

  sync() {
    fsyncSync(this.file);
    return true;
  }

  end() {
    closeSync(this.file);
    this.release();
  }
}

const accessMode = (fd) => {
  const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf-8"))?.[1];
  return parseInt(flags, 8) & 3;
};

/** Whether a descriptor was handed to this process. Node opens pipes for itself where there is room, and has both ends of them. */
export function isInherited(fd) {
  if (fd <= 2) return true;
  try {
    const what = readlinkSync(`/proc/self/fd/${fd}`);
    if (!what.startsWith("pipe:")) return !what.startsWith("anon_inode:");
    return readdirSync("/proc/self/fd").every((other) => {
      try {
        return readlinkSync(`/proc/self/fd/${other}`) !== what || accessMode(other) === accessMode(fd);
      } catch {
        return true; // it was that of this very listing
      }
    });
  } catch {
    return false;
  }
}

export function kindOfDescriptor(fd) {
  if (!isInherited(fd)) return "closed";
  try {
    const status = fstatSync(fd);
    return status.isSocket() ? "socket" : status.isFIFO() ? "pipe" : "other";
  } catch {
    return "closed";
  }
}

// Who hears the commands that come on a descriptor: it is read once, whatever the number of runs.
const listeners = new Map();

function listenOn(fd, take) {
  if (listeners.has(fd)) {
    listeners.get(fd).add(take);
    return;
  }
  const takers = new Set([take]);
  listeners.set(fd, takers);
  const framer = new Connection({ lenient: true });
  const socket = new Socket({ fd, readable: true, writable: false });
  socket.on("data", (bytes) => {
    for (const { event } of framer.feed(bytes)) {
      if (event?.t === "command") for (const taker of takers) taker(event.p);
    }
  });
  socket.on("error", () => {});
  socket.unref();
}

/** Whoever reads there has said nothing: a plain peer (VER-3). */
export class Descriptor extends Frames {
  constructor(fd, stream) {
    super(stream);
    this.file = fd;
    this.isPlainPeer = true;
  }

  append(seq, payload) {
    super.append(seq, plainForm(payload));
  }

  /** EMT-2.5: commands come where the frames go if that is a socket, else on standard input. */
  listen(take) {
    const fd = kindOfDescriptor(this.file) === "socket" ? this.file : 0;
    if (fd !== 0 || ["pipe", "socket"].includes(kindOfDescriptor(0))) listenOn(fd, take);
  }
}
