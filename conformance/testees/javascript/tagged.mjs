/**
 * Values as they cross between suite and testee: with their types.
 */

const bits = new DataView(new ArrayBuffer(8));

export function toTagged(value) {
  if (value === null) return { t: "null" };
  if (typeof value === "boolean") return { t: "bool", v: value };
  if (typeof value === "bigint") return { t: "int", v: value.toString() };
  if (typeof value === "number") {
    bits.setFloat64(0, value);
    return { t: "float", v: bits.getBigUint64(0).toString(16).padStart(16, "0") };
  }
  if (typeof value === "string") return { t: "str", v: value };
  if (Array.isArray(value)) return { t: "list", v: value.map(toTagged) };
  return { t: "obj", v: [...value].map(([name, item]) => [name, toTagged(item)]) };
}

export function fromTagged(tagged) {
  switch (tagged.t) {
    case "null":
      return null;
    case "bool":
    case "str":
      return tagged.v;
    case "int":
      return BigInt(tagged.v);
    case "float":
      bits.setBigUint64(0, BigInt(`0x${tagged.v}`));
      return bits.getFloat64(0);
    case "utf16":
      return String.fromCharCode(...tagged.v.match(/.{4}/g).map((unit) => parseInt(unit, 16)));
    case "list":
      return tagged.v.map(fromTagged);
    case "obj":
      return new Map(tagged.v.map(([name, item]) => [name, fromTagged(item)]));
    default:
      throw new TypeError(`a value of the unknown kind ${tagged.t}`);
  }
}

export const eventToTagged = ({ t, v, m, p }) =>
  toTagged(
    new Map([
      ["t", t],
      ["v", v],
      ["m", m],
      ["p", p],
    ]),
  );

export function eventFromTagged(tagged) {
  const event = fromTagged(tagged);
  return { t: event.get("t"), v: event.get("v"), m: event.get("m"), p: event.get("p") };
}
