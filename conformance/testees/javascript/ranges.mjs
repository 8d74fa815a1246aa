/** A set of seqs, as ascending ranges [first, last] of bigints that neither overlap nor touch. */
export class Ranges {
  constructor(pairs = []) {
    this.pairs = [];
    for (const [first, last] of pairs) this.add(first, last);
  }

  /** Index of the first pair that ends at `seq` or behind it. */
  find(seq) {
    let low = 0;
    let high = this.pairs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.pairs[middle][1] < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  has(seq) {
    const pair = this.pairs[this.find(seq)];
    return pair !== undefined && pair[0] <= seq;
  }

  add(first, last = first) {
    const from = this.find(first - 1n);
    let to = from;
    while (to < this.pairs.length && this.pairs[to][0] <= last + 1n) to += 1;
    let merged = [first, last];
    if (to > from) {
      const low = this.pairs[from][0];
      const high = this.pairs[to - 1][1];
      merged = [low < first ? low : first, high > last ? high : last];
    }
    this.pairs.splice(from, to - from, merged);
  }

  union(other) {
    const out = new Ranges();
    out.pairs = this.pairs.map((pair) => [...pair]);
    for (const [first, last] of other.pairs) out.add(first, last);
    return out;
  }

  /** What is in this set and not in the other. */
  minus(other) {
    const out = new Ranges();
    for (const [first, last] of this.pairs) {
      let from = first;
      for (let index = other.find(first); index < other.pairs.length && other.pairs[index][0] <= last; index += 1) {
        const [low, high] = other.pairs[index];
        if (low > from) out.pairs.push([from, low - 1n]);
        if (high >= from) from = high + 1n;
      }
      if (from <= last) out.pairs.push([from, last]);
    }
    return out;
  }

  get greatest() {
    return this.pairs.length === 0 ? 0n : this.pairs.at(-1)[1];
  }

  /** The greatest S such that all from 1 to S is here. */
  get unbroken() {
    const pair = this.pairs[this.find(1n)];
    return pair !== undefined && pair[0] <= 1n ? pair[1] : 0n;
  }
}
