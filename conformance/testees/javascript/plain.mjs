/** How events go to a plain peer, which knows only the types that were published first (VER-3.1). */

import { decode } from "./decode.mjs";
import { encodePayload } from "./encode.mjs";
import { RUN_EVENTS } from "./events.mjs";

const ADDED = new Set(["tags", "alert", "summary"]);

/** The payload that is sent in place of one. */
export function plainForm(payload) {
  const event = decode(payload);
  const { t, m, p } = event;
  if (Object.hasOwn(RUN_EVENTS, t) && !ADDED.has(t)) return payload;
  const log = (level, msg, fields) =>
    new Map([
      ["run_id", p.get("run_id")],
      ["level", level],
      ["msg", msg],
      ["logger", "xtrack"],
      ...(fields === undefined ? [] : [["fields", fields]]),
    ]);
  let body;
  if (t === "tags") body = log("info", "tags", p.get("tags"));
  else if (t === "summary") body = log("info", "summary", p.get("values"));
  else if (t === "alert") {
    const text = p.has("text") ? `${p.get("title")}: ${p.get("text")}` : p.get("title");
    body = log(p.get("level") ?? "warning", text);
  } else body = log("info", t, p);
  return encodePayload({ t: "log", m, p: body });
}
