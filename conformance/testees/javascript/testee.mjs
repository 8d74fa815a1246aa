/**
 * A testee of the conformance suite: an implementation of the XTrack protocol for Node, without packages, written from docs/spec alone.
 *
 * One request a line on stdin, one answer a line on stdout (docs/reference/testee-protocol.md).
 */

import { createInterface } from "node:readline";

import { CODEC_OPS } from "./codec_ops.mjs";
import { COLLECTOR_OPS } from "./collector_ops.mjs";
import { EMITTER_OPS } from "./emitter_ops.mjs";
import { readLine, writeLine } from "./lines.mjs";
import { HAS_LOCKS } from "./locks.mjs";
import { SERVER_OPS } from "./server_ops.mjs";
import { STORE_OPS } from "./store_ops.mjs";

const HELLO = {
  impl: { name: "xtrack-javascript", version: "0.1", language: "JavaScript" },
  protocol: [1],
  roles: ["encoder", "decoder", "framer", "collector", "store", "emitter", "server"],
  capabilities: {
    strict: true,
    lenient: true,
    recording: true,
    stop_at_damage: true,
    limits: true,
    lone_surrogates: true,
    messagepack: true,
    // of a store
    crash: true,
    segments: true,
    spool: true,
    notes: true,
    trim: true,
    posix: true,
    // of an emitter
    full: true,
    processes: true,
    settings_file: true,
    folders: true,
    shipping: true,
    disk: true,
    certificates: true,
    stalls: true,
    locks: HAS_LOCKS,
    // of a server
    keys: true,
    commands: true,
    follow: true,
    deadlines: true,
    bounds: true,
    store_faults: true,
  },
  max_in_flight: 32,
};

const OPS = { ...CODEC_OPS, ...COLLECTOR_OPS, ...STORE_OPS, ...SERVER_OPS, ...EMITTER_OPS, hello: () => HELLO };

const tell = (id, answer) => process.stdout.write(`${writeLine({ id, ...answer })}\n`);
const broken = (error) => ({ internal_error: String(error?.stack ?? error) });

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  const request = readLine(line);
  try {
    if (!Object.hasOwn(OPS, request.op)) tell(request.id, { unsupported: { capability: request.op } });
    else {
      const answer = OPS[request.op](request);
      // Of what takes its time nobody else waits.
      if (answer instanceof Promise) answer.catch(broken).then((told) => tell(request.id, told));
      else tell(request.id, answer);
    }
  } catch (error) {
    tell(request.id, broken(error));
  }
}
