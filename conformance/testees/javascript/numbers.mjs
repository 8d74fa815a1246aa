/**
 * How numbers are held: a bigint is an integer, a number is a binary64. So 1 and 1.0 stay apart, and no integer loses digits.
 * What lies beyond binary64 is Overflow until it is known whether anybody cares (ENV-6.2).
 */

export const INT64_MIN = -(2n ** 63n);
export const INT64_MAX = 2n ** 63n - 1n;

/** A number whose magnitude rounds beyond the largest binary64 (VAL-2.4). */
export class Overflow {}
export const OVERFLOW = new Overflow();

export const NON_FINITE = new Map([
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
]);

export const isInt64 = (value) => typeof value === "bigint" && value >= INT64_MIN && value <= INT64_MAX;

/** The name of VAL-3 for a binary64 that is not finite. */
export function nameOfNonFinite(value) {
  return Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

/** From the text of a JSON number to a bigint, a number, or OVERFLOW. */
export function numberFromText(text, integral) {
  // 310 digits are at least 1e309, as JSON has no leading zeros; a bigint of them would cost time for nothing.
  if (integral && text.length < 311) return BigInt(text);
  const value = Number(text);
  return Number.isFinite(value) ? value : OVERFLOW;
}

/** VAL-2.1 and VAL-2.2: an integer that fits stays one, another becomes the nearest binary64. */
export function asNumber(value) {
  if (typeof value !== "bigint" || isInt64(value)) return value;
  const float = Number(value);
  return Number.isFinite(float) ? float : OVERFLOW;
}
