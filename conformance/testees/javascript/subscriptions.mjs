/** Subscriptions (CTL-11): each reads a run's log from where it stands, no faster than the client does (CTL-17.11). */

import { frame } from "./encode.mjs";
import { Fold } from "./fold.mjs";

const BACKLOG = 1_048_576;

export class Subscriptions {
  constructor(hub) {
    this.hub = hub;
    this.byPeer = new Map();
  }

  of(peer) {
    if (!this.byPeer.has(peer)) this.byPeer.set(peer, new Map());
    return this.byPeer.get(peer);
  }

  begin(peer, run, from, untilEnd) {
    const mine = this.of(peer);
    mine.delete(run); // CTL-11.7
    const { hub } = this;
    if (!hub.access.hasRight(peer.key, "read")) {
      this.refuse(peer, run, "forbidden", "the key is not good for reading");
      return;
    }
    if (mine.size >= hub.options.subscriptions) {
      this.refuse(peer, run, "busy", "too many subscriptions");
      return;
    }
    // SEC-4.7, SEC-4.8: one that is not there, or was deleted, is answered like one that may not be read.
    if (!hub.access.mayRead(peer.key, run)) {
      this.refuse(peer, run, "forbidden", "there is no such run for this key");
      return;
    }
    const length = hub.store.collection.known(run)?.log.length ?? 0;
    const wanted = from === undefined ? length : Math.max(0, Number(from));
    const at = Math.min(length, wanted);
    const subscription = { at, untilEnd: untilEnd && peer.features.has("follow") };
    mine.set(run, subscription);
    if (peer.features.has("follow")) peer.send("subscribe", { run_id: run, from: BigInt(at) });
    // The events follow when the transaction that is under way is committed.
  }

  refuse(peer, run, code, msg) {
    this.hub.refuse(code, peer);
    this.tell(peer, run, code, msg);
  }

  tell(peer, run, code, msg) {
    if (peer.features.has("follow")) peer.send("unsubscribe", { run_id: run, code, msg });
  }

  end(peer, run) {
    this.of(peer).delete(run);
  }

  forget(peer) {
    this.byPeer.delete(peer);
  }

  serve(peer, id, subscription) {
    const run = this.hub.store.collection.known(id);
    if (run === undefined || this.hub.troubled) return;
    while (subscription.at < run.log.length) {
      if (peer.wire.backlog > BACKLOG) return;
      const { stream, seq } = run.log[subscription.at];
      subscription.at += 1;
      peer.wire.write(frame(stream.events.get(seq).payload));
    }
    if (subscription.untilEnd) this.endIfOver(peer, id, run);
  }

  endIfOver(peer, id, run) {
    const { status } = new Fold(run).state();
    if (status === "pending" || status === "running") return;
    this.of(peer).delete(id);
    this.tell(peer, id, "ended", `the run has ${status}`);
  }

  /** After a commit, or when a client has read on. */
  pump(only) {
    for (const [peer, mine] of only === undefined ? this.byPeer : [[only, this.of(only)]]) {
      for (const [id, subscription] of [...mine]) this.serve(peer, id, subscription);
    }
  }

  deleted(id) {
    for (const [peer, mine] of this.byPeer) if (mine.delete(id)) this.tell(peer, id, "deleted", "the run was deleted");
  }

  /** CTL-11.9 */
  checkRights() {
    for (const [peer, mine] of this.byPeer) {
      for (const id of [...mine.keys()]) {
        if (this.hub.access.mayRead(peer.key, id)) continue;
        mine.delete(id);
        this.refuse(peer, id, "forbidden", "the run can't be read any more");
      }
    }
  }
}
