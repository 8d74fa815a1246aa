/** What a training hands to an emitter, as values that have a place on the wire (EMT-5). */

import { isInt64, NON_FINITE } from "./numbers.mjs";

export class NoNumber extends Error {}
const DEEP = 56; // leaves room below MAX_DEPTH for the envelope and the body around a value

/** EMT-5.3. */
export const cleanText = (text) => text.toWellFormed();

/** A text that shows any value. What has none raises whatever it raises. */
export function shown(value) {
  if (value instanceof Map || Array.isArray(value)) {
    return JSON.stringify(value, (_, item) => {
      if (item instanceof Map) return Object.fromEntries(item);
      return typeof item === "bigint"
        ? item.toString()
        : typeof item === "function" || typeof item === "symbol"
          ? String(item)
          : item;
    });
  }
  return String(value);
}

/** For a string slot. */
export const asText = (value) => cleanText(typeof value === "string" ? value : shown(value));

/** For a free slot; `warn` is called once for each value that has no form there. */
export function asFree(value, warn, depth = 0) {
  if (value === null || typeof value === "boolean" || typeof value === "number") return value;
  if (typeof value === "string") return cleanText(value);
  if (typeof value === "bigint" && isInt64(value)) return value;
  const isList = Array.isArray(value);
  const isMap = value instanceof Map;
  // Such an object would be read as a number (VAL-4.5).
  const reads = isMap && value.size === 1 && NON_FINITE.has(value.get("$float"));
  if (depth < DEEP && isList) return value.map((item) => asFree(item, warn, depth + 1));
  if (depth < DEEP && isMap && !reads) return asMap(value, (item) => asFree(item, warn, depth + 1));
  warn("a value has no form in JSON, and is sent as a text: convert it before you log it");
  return asText(value);
}

export function asMap(value, convert) {
  const out = new Map();
  for (const [name, item] of value) out.set(asText(name), convert(item));
  return out;
}

/** For a number slot (EMT-5.1). */
export function asNumber(value) {
  if (typeof value === "boolean") return value ? 1n : 0n;
  if (typeof value === "number") return value;
  if (typeof value === "bigint") return isInt64(value) ? value : Number(value);
  throw new NoNumber("a metric is a number");
}

/** For an integer slot. */
export function asInteger(value) {
  if (typeof value === "bigint" && isInt64(value)) return value;
  if (typeof value === "number" && Number.isSafeInteger(value)) return BigInt(value);
  if (typeof value === "boolean") return value ? 1n : 0n;
  throw new NoNumber("a step is a whole number");
}
