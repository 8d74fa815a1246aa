/** Votes and the status of a run (FLD-4 to FLD-6, FLD-8). */

import { compare, greatest } from "./order.mjs";
import { isDerived } from "./streams.mjs";

const RANKING = ["failed", "killed", "lost", "running", "completed"];

/** FLD-6.4, FLD-6.6, FLD-6.7: the StreamLost of a session that counts, if any. */
export function effectiveLoss({ stream }) {
  const died = stream.losses.filter(({ reason }) => reason === "died");
  if (died.length > 0) return greatest(died, ({ at }) => [-at]);
  const vanished = stream.losses.filter(({ reason }) => reason === "vanished");
  const last = stream.has.greatest;
  const loss = greatest(vanished, ({ at, afterSeq }) => [afterSeq ?? last, -at]);
  return loss !== undefined && last > (loss.afterSeq ?? last) ? undefined : loss;
}

/** FLD-4.1, FLD-4.2, FLD-4.5: sets `superseded` and `loss` of each session. `sessions` are in their order. */
export function supersede(sessions) {
  for (const session of sessions) {
    session.loss = effectiveLoss(session);
    const derived = isDerived(session.sid);
    const others = sessions.filter((other) => other !== session);
    const begun = others.filter(
      (other) => derived && isDerived(other.sid) && other.wid === session.wid && other.runStart !== undefined,
    );
    const over = session.runEnd !== undefined || session.loss !== undefined;
    session.superseded =
      others.some((other) => other.resumes.has(session.sid)) ||
      (over && begun.some((other) => other.rank > session.rank)) ||
      (session.runStart === undefined && session.runEnd === undefined && begun.length > 0);
  }
}

/** The vote of each session that has one (FLD-4, FLD-4.3, FLD-6.5). */
export function votesOf(sessions) {
  let votes = [];
  for (const session of sessions) {
    const known = session.runStart !== undefined || session.runEnd !== undefined || isDerived(session.sid);
    if (session.superseded || session.sub || !known) continue;
    const { runEnd, loss } = session;
    if (runEnd !== undefined) votes.push({ session, vote: runEnd.p.get("status"), at: runEnd.m.get("ts") });
    else if (loss !== undefined) votes.push({ session, vote: loss.reason === "died" ? "killed" : "lost", at: loss.at });
    else votes.push({ session, vote: "running" });
  }
  if (votes.some(({ session }) => !session.observer)) {
    votes = votes.filter(({ session }) => !session.observer || session.runEnd !== undefined);
  }
  return votes;
}

/** FLD-5.3: the greatest world_size of the sessions that are not superseded; one below 1 is absent (EVT-RUN_START-7.3). */
function worldSize(sessions) {
  const sizes = sessions
    .filter(({ superseded }) => !superseded)
    .map(({ runStart }) => runStart?.p.get("world_size") ?? 0n)
    .filter((size) => size >= 1n);
  return sizes.reduce((a, b) => (a > b ? a : b), 0n);
}

export function statusOf(sessions, votes) {
  let status = RANKING.find((name) => votes.some(({ vote }) => vote === name)) ?? "pending";
  if (status === "completed") {
    const workers = new Set(votes.filter(({ session }) => !session.observer).map(({ session }) => session.wid));
    if (BigInt(workers.size) < worldSize(sessions)) status = "running";
  }
  const least = (values) => values.reduce((a, b) => (a === undefined || b < a ? b : a), undefined);
  const started = least(
    sessions.filter(({ runStart, sub }) => runStart !== undefined && !sub).map(({ runStart }) => runStart.m.get("ts")),
  );
  const over = status !== "pending" && status !== "running";
  const ends = votes.map(({ at }) => at).filter((at) => at !== undefined);
  const ended = over ? ends.reduce((a, b) => (a === undefined || b > a ? b : a), undefined) : undefined;
  return { status, started, ended, error: errorOf(votes, status) };
}

/** FLD-5.10. */
function errorOf(votes, status) {
  const key = ({ session, at }) => [session.observer ? 1 : 0, at, session.wid, session.sid];
  const candidates = votes.filter(({ vote, session }) => vote === status && session.runEnd?.p.has("error"));
  candidates.sort((a, b) => compare(key(a), key(b)));
  return candidates[0]?.session.runEnd.p.get("error");
}
