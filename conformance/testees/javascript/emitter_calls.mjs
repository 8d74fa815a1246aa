/** The calls of a training, by the names that the suite has for them. */

import { fromTagged } from "./tagged.mjs";

/** {"t":"opaque"} is a value without a form in JSON; "broken" is one without a text, either. */
export function argument(tagged) {
  if (tagged.t === "list") return tagged.v.map(argument);
  if (tagged.t === "obj") return new Map(tagged.v.map(([name, item]) => [name, argument(item)]));
  if (tagged.t !== "opaque") return fromTagged(tagged);
  if (tagged.v !== "broken") return function opaque() {};
  const broken = () => {
    throw new Error("this has no text");
  };
  return { toString: broken, toJSON: broken, [Symbol.toPrimitive]: broken };
}

export const optional = (given, name) => given.get(name) ?? undefined;
export const seconds = (given) => {
  const value = optional(given, "timeout");
  return value === undefined ? undefined : Number(value);
};

/** The calls of a training, by the names of the suite. `done(value)` may be called later. */
export const CALLS = {
  param: (emitter, given) => emitter.param(given.get("key"), given.get("value")),
  metric: (emitter, given) => emitter.metric(given.get("key"), given.get("value"), Object.fromEntries(given)),
  metrics: (emitter, given) => emitter.metrics(given.get("values"), Object.fromEntries(given)),
  log: (emitter, given) => emitter.log(given.get("msg"), optional(given, "level"), optional(given, "fields")),
  tags: (emitter, given) => emitter.tags(given.get("tags")),
  status: (emitter, given) => emitter.status(given.get("status"), optional(given, "msg")),
  artifact: (emitter, given) => emitter.artifact(given.get("path"), Object.fromEntries(given)),
  checkpoint: (emitter, given) => emitter.checkpoint(given.get("path"), given.get("step"), optional(given, "metrics")),
  alert: (emitter, given) => emitter.alert(given.get("title"), Object.fromEntries(given)),
  summary: (emitter, given) => emitter.summary(given.get("values")),
};
