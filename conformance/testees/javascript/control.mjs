/** Makes control events (CTL-1): seq 0, no `sid` in `m`. */

import { encodePayload, frame } from "./encode.mjs";

/** The frame of a control event; undefined members are left out. */
export function control(type, body, now) {
  const p = new Map(Object.entries(body).filter(([, value]) => value !== undefined));
  return frame(
    encodePayload({
      t: type,
      m: new Map([
        ["seq", 0n],
        ["ts", BigInt(Math.trunc(now * 1000))],
      ]),
      p,
    }),
  );
}

/** How streams are named in control events: `wid` only where there is one. */
export const named = ({ run, wid, sid }) => ({ run_id: run, wid: wid === "" ? undefined : wid, sid });
