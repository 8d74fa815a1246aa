/** The requests to an encoder, a decoder and a framer. */

import { decode } from "./decode.mjs";
import { encodePayload, frame, MAX_PAYLOAD, wireForm } from "./encode.mjs";
import { Connection, Recording } from "./framer.mjs";
import { messagePack } from "./msgpack.mjs";
import { Refused } from "./refused.mjs";
import { eventFromTagged, eventToTagged } from "./tagged.mjs";

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const bytesOf = (text) => Buffer.from(text, "base64");

function orRejected(work) {
  try {
    return work();
  } catch (error) {
    if (error instanceof Refused) return { rejected: { class: error.kind } };
    throw error;
  }
}

const sessions = new Map();

function framerOf(request) {
  let framer = sessions.get(request.session);
  if (framer === undefined) {
    const options = {
      lenient: request.reader === "lenient",
      limit: request.limit,
      stopAtDamage: request.stop_at_damage,
      messagepack: request.codec === "msgpack",
    };
    framer = request.source === "recording" ? new Recording(options) : new Connection(options);
    sessions.set(request.session, framer);
  }
  return framer;
}

function framesOf(frames, state) {
  const told = frames.map(({ offset, length, payload, error, fatal, verified }) => {
    const head = verified === false ? { offset, length, verified } : { offset, length };
    return error === undefined ? { ...head, payload: base64(payload) } : { ...head, rejected: { class: error, fatal } };
  });
  return { frames: told, state };
}

/** VER-2.7: what would be too large in MessagePack goes as JSON. */
function payloadOf(event, { codec, limit = MAX_PAYLOAD }) {
  const packed = codec === "msgpack" ? messagePack(wireForm(event)) : undefined;
  return packed === undefined || packed.length > limit ? encodePayload(event) : packed;
}

export const CODEC_OPS = {
  encode: (request) =>
    orRejected(() => ({ frame: base64(frame(payloadOf(eventFromTagged(request.event), request), request.limit)) })),

  decode: (request) =>
    orRejected(() => ({
      event: eventToTagged(
        decode(bytesOf(request.payload), {
          lenient: request.reader === "lenient",
          messagepack: request.codec === "msgpack",
        }),
      ),
    })),

  "frame.feed"(request) {
    const framer = framerOf(request);
    return framesOf(framer.feed(bytesOf(request.bytes)), framer.state);
  },

  "frame.finish"(request) {
    const framer = framerOf(request);
    sessions.delete(request.session);
    return framesOf(framer.finish(), framer.state);
  },
};
