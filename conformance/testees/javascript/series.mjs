/** Series (FLD-3): the order of points, what a state tells of them, aggregates over workers. */

import { compare, lastWrite } from "./order.mjs";

/** FLD-3, FLD-3.1: by step, then session order, then seq; those without a step stand last. */
export function pointsOf(points) {
  const key = ({ step, session, seq }) => [step === undefined ? 1 : 0, step ?? 0n, session.rank, seq];
  return [...points].sort((a, b) => compare(key(a), key(b)));
}

/** FLD-3.5: numbers only, infinities included. */
function bounds(values) {
  let least;
  let most;
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    if (least === undefined || value < least) least = value;
    if (most === undefined || value > most) most = value;
  }
  return { least, most };
}

export function seriesState(points) {
  const shown = points.filter(({ hidden }) => !hidden);
  const { least, most } = bounds(shown.map(({ value }) => value));
  return { count: shown.length, last: lastWrite(shown)?.value, least, greatest: most };
}

function mean(values) {
  const numbers = values.map(Number);
  const sum = numbers.reduce((a, b) => a + b, 0);
  if (Number.isFinite(sum) || !numbers.every(Number.isFinite)) return sum / numbers.length;
  // The sum is beyond binary64, the mean is not.
  return numbers.reduce((a, b) => a + b / numbers.length, 0);
}

/** FLD-3.7, FLD-3.8: one entry a step, ascending. */
export function aggregate(points) {
  const steps = new Map();
  for (const point of pointsOf(points)) {
    if (point.step === undefined || point.hidden) continue;
    if (!steps.has(point.step)) steps.set(point.step, new Map());
    steps.get(point.step).set(point.session.wid, point.value);
  }
  return [...steps].map(([step, workers]) => {
    const values = [...workers.values()];
    const numbers = values.filter((value) => !Number.isNaN(value));
    const { least, most } = bounds(numbers);
    return {
      step,
      mean: numbers.length === 0 ? undefined : mean(numbers),
      least,
      greatest: most,
      nan: values.length - numbers.length,
    };
  });
}
