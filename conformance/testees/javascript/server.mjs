/** A collector that listens on TCP (node:net). */

import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

import { RealClock } from "./clock.mjs";
import { MAX_PAYLOAD } from "./encode.mjs";
import { Hub } from "./hub.mjs";
import { KeyRing } from "./keys.mjs";
import { Peer } from "./peer.mjs";
import { Store } from "./store.mjs";

const MIN_FRAME = 65_536; // CTL-6.4
const LINGER = 2000;
const TICK = 50;
const LOCAL = new Set(["127.0.0.1", "::1", "localhost"]);

/** What a Peer writes to. */
class Wire {
  constructor(socket) {
    this.socket = socket;
  }

  write(bytes) {
    if (!this.socket.destroyed) this.socket.write(bytes);
  }

  get backlog() {
    return this.socket.writableLength;
  }

  /** Everything that was written goes out first; who never closes is not waited for. */
  close() {
    this.socket.end();
    setTimeout(() => this.socket.destroy(), LINGER).unref();
  }

  pause() {
    this.socket.pause();
  }

  resume() {
    this.socket.resume();
  }
}

export class Server {
  /** `withKeys`: who connects must have a key (SEC-2.4). */
  constructor(folder, { withKeys = false, host = "127.0.0.1", options = {} } = {}) {
    // CTL-14.3
    if (!LOCAL.has(host)) throw new RangeError("beyond the local machine a key and TLS are required");
    if (options.maxFrame < MIN_FRAME || options.maxFrame > MAX_PAYLOAD)
      throw new RangeError("max_frame is from 65,536 to 16,777,215");
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.host = host;
    this.clock = new RealClock();
    this.store = new Store(folder);
    this.keys = withKeys ? new KeyRing(join(folder, "keys"), this.clock) : null;
    this.hub = new Hub({ store: this.store, clock: this.clock, keys: this.keys, options });
    this.sockets = new Set();
  }

  start() {
    this.listener = createServer({ keepAlive: true, allowHalfOpen: false, noDelay: true }, (socket) =>
      this.accept(socket),
    );
    this.timer = setInterval(() => this.hub.tick(), TICK);
    return new Promise((resolve, reject) => {
      this.listener.once("error", reject);
      this.listener.listen(0, this.host, () => resolve(this.listener.address().port));
    });
  }

  accept(socket) {
    this.sockets.add(socket);
    const peer = new Peer(this.hub, new Wire(socket), socket.remoteAddress);
    socket.on("data", (bytes) => peer.receive(bytes));
    socket.on("drain", () => this.hub.subscriptions.pump(peer));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.sockets.delete(socket);
      peer.ended();
    });
    this.hub.connect(peer);
  }

  async stop() {
    clearInterval(this.timer);
    this.hub.stop();
    const closed = new Promise((resolve) => this.listener.close(resolve));
    const late = setTimeout(() => this.sockets.forEach((socket) => socket.destroy()), LINGER);
    await closed;
    clearTimeout(late);
    this.store.close();
  }
}
