/** Clocks, in milliseconds. A VirtualClock stands still but in `advance`. */

export class RealClock {
  now() {
    return performance.now();
  }

  /** Calls `work` later; what is returned calls it off. */
  after(milliseconds, work) {
    const timer = setTimeout(work, Math.min(milliseconds, 2 ** 31 - 1));
    timer.unref();
    return () => clearTimeout(timer);
  }

  /** Microseconds since the Unix epoch are 1000 times this. */
  wall() {
    return Date.now();
  }
}

export class VirtualClock {
  constructor(start = 0, epoch = 1_700_000_000_000) {
    this.time = start;
    this.epoch = epoch;
    this.timers = [];
    this.count = 0;
  }

  now() {
    return this.time;
  }

  wall() {
    return this.epoch + this.time;
  }

  after(milliseconds, work) {
    const timer = { at: this.time + Math.max(0, milliseconds), number: (this.count += 1), work };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  /** Does all that is due until `time`, in order, each at its time. */
  advance(time) {
    for (;;) {
      const due = this.timers.filter(({ at }) => at <= time);
      if (due.length === 0) break;
      const next = due.reduce((a, b) => (b.at < a.at || (b.at === a.at && b.number < a.number) ? b : a));
      this.timers = this.timers.filter((other) => other !== next);
      this.time = Math.max(this.time, next.at);
      next.work();
    }
    this.time = Math.max(this.time, time);
  }
}
