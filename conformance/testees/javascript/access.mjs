/** Who may do what with a run (SEC-3, SEC-4). Without keys everybody may do everything. */

import { Fold } from "./fold.mjs";

const blank = (owner) => ({ owner, public: false, readers: [], writers: [] });

export class Access {
  constructor(hub) {
    this.hub = hub;
  }

  of(run) {
    return this.hub.store.collection.owners.get(run) ?? null;
  }

  set(run, change) {
    const now = this.of(run) ?? blank(null);
    this.hub.store.setAccess(run, { ...now, ...change(now) });
  }

  hasRight(key, right) {
    return key === null || key.rights.includes(right);
  }

  /** SEC-3.2: whether a run that is there belongs to the key's experiment. */
  inExperiment(key, run) {
    if (key.experiment === undefined || key.experiment === null) return true;
    return new Fold(run).state().experiment === key.experiment;
  }

  mayRead(key, id) {
    if (key === null) return true;
    if (!this.hasRight(key, "read")) return false;
    const run = this.hub.store.collection.known(id);
    const access = this.of(id);
    if (access === null) return false;
    if (run === undefined ? key.experiment : !this.inExperiment(key, run)) return false; // SEC-4.9
    const { owner, readers, writers } = access;
    return access.public || owner === key.owner || readers.includes(key.owner) || writers.includes(key.owner);
  }

  /** Whether an owner may write to a run that has one. */
  mayWrite(key, id) {
    if (key === null) return true;
    if (!this.hasRight(key, "write")) return false;
    const access = this.of(id);
    if (access === null || access.owner === null) return false;
    const run = this.hub.store.collection.known(id);
    if (run !== undefined && !run.isEmpty && !this.inExperiment(key, run)) return false;
    return access.owner === key.owner || access.writers.includes(key.owner);
  }

  /** SEC-4, SEC-4.2: whether a stream of a run may be opened; a run that is new then belongs to the key's owner. */
  claim(key, id) {
    if (key === null) return true;
    if (!this.hasRight(key, "write")) return false;
    if (this.hub.store.collection.deleted.has(id)) return true; // each event is refused with run_deleted
    const access = this.of(id);
    if (access !== null && access.owner !== null) return this.mayWrite(key, id);
    const run = this.hub.store.collection.known(id);
    if (
      run !== undefined &&
      [...run.streams.values()].some(
        (stream) => stream.has.greatest + stream.skipped.greatest > 0n || stream.losses.length > 0,
      )
    )
      return false;
    this.set(id, () => ({ owner: key.owner }));
    return true;
  }

  /** A claim that came to nothing. */
  release(id) {
    const run = this.hub.store.collection.known(id);
    if (run === undefined || run.log.length === 0) this.hub.store.setAccess(id, null);
  }
}
