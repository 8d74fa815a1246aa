/** Lines of the testee protocol. Whole numbers beyond 2^53 keep their digits, as bigints. */

import { parseJson } from "./json.mjs";

const LONG_NUMBER = /[:,[]\s*-?[0-9]{16}/;

function plain(value) {
  if (value instanceof Map) return Object.fromEntries([...value].map(([name, item]) => [name, plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "bigint") return value;
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

export const readLine = (line) => (LONG_NUMBER.test(line) ? plain(parseJson(Buffer.from(line))) : JSON.parse(line));

/** JSON of plain values, with bigints as numbers. */
export function writeLine(value) {
  if (value === null || typeof value === "boolean" || typeof value === "number" || typeof value === "string") {
    return JSON.stringify(value);
  }
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return `[${value.map(writeLine).join(",")}]`;
  const members = Object.entries(value).filter(([, item]) => item !== undefined);
  return `{${members.map(([name, item]) => `${JSON.stringify(name)}:${writeLine(item)}`).join(",")}}`;
}
