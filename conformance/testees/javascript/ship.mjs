/** Ships what lies in a spool, from another process than the one that wrote it (DLV-9). */

import { isAlive, leftIn } from "./place.mjs";
import { laneOf, Link } from "./link.mjs";

const SECOND = 1000;
const PATIENCE = 30 * SECOND;
const SETTLED = 1.5 * SECOND;

/** Lanes of streams of a run that were for the same collector, and that nobody ships any more (DLV-8.8). */
export function orphansIn(root, own, url) {
  const isOrphan = (found) =>
    found.run === own.run &&
    found.sid !== own.sid &&
    found.note?.get("buffer") === true &&
    found.note.get("to") === url &&
    !isAlive(found);
  const places = [...leftIn(root, isOrphan)].map(({ place }) => place);
  return places.filter((place) => place !== null).map((place) => laneOf(place, url, true));
}

/** `done(success)` is called when it is over. */
export class Shipping {
  constructor({ root, clock, line, tell, again, done }) {
    Object.assign(this, { clock, line, tell, done });
    this.alone = 0;
    this.link = new Link({ emitter: this, clock, line });
    for (const { found, place } of leftIn(root, () => true)) {
      if (place === null) {
        this.alone += 1;
        tell(`xtrack: run ${found.run}: left to another process, which ships it`);
        continue;
      }
      const lane = laneOf(place, line.url, false);
      if (again) lane.plainSent = 0n;
      this.link.lanes.push(lane);
    }
    this.progress = "";
    this.moved = clock.now();
    if (this.link.lanes.length === 0) this.end();
    else {
      this.link.begin();
      this.look();
    }
  }

  // What a link tells.

  warn(text) {
    this.tell(`xtrack: ${text}`);
  }

  command() {}

  opened() {}

  changed() {}

  look() {
    this.clock.after(SECOND / 4, () => {
      const { link } = this;
      const now = this.clock.now();
      const progress = String(link.lanes.map(({ cursor, sent }) => [cursor, sent]));
      if (progress !== this.progress) [this.progress, this.moved] = [progress, now];
      link.save();
      const plain = link.state === "plain" && link.lanes.every((lane) => lane.sent >= lane.last());
      const acked = link.state === "session" && link.lanes.every((lane) => lane.out || (lane.opened && lane.isAcked));
      if (acked || (plain && now >= this.moved + SETTLED) || now >= this.moved + PATIENCE) this.end();
      else this.look();
    });
  }

  end() {
    const { lanes } = this.link;
    let success = this.alone === 0;
    for (const lane of lanes) {
      const { run } = lane.place.stream;
      if (!lane.isAcked || lane.rejected.size > 0) success = false;
      if (!lane.isAcked && lane.plainSent > 0n) this.tell(`xtrack: run ${run}: sent to a peer that confirms nothing`);
      if (lane.rejected.size > 0) this.tell(`xtrack: run ${run}: ${lane.rejected.size} events were refused`);
    }
    this.link.end();
    for (const lane of lanes) lane.place.end();
    this.done(success);
  }
}
