/** How a process sets its emitter up: arguments, variables, a file of settings, in this order (EMT-1). */

import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { connect as connectSecurely } from "node:tls";
import { homedir, hostname } from "node:os";
import { dirname, join, resolve } from "node:path";

import { RealClock } from "./clock.mjs";
import { Emitter, Misconfigured } from "./emitter.mjs";
import { encodePayload } from "./encode.mjs";
import { SpoolPlace } from "./place.mjs";
import { Descriptor, kindOfDescriptor, Nowhere, PlainFile } from "./sinks.mjs";
import { orphansIn } from "./ship.mjs";
import { Spool } from "./spool.mjs";

// EMT-2.1 asks what it was when the emitter was loaded.
const THREE = kindOfDescriptor(3);
const TRANSPORTS = new Set(["local", "file", "stdio", "unix", "tcp", "null"]);
const NAMES = [
  "transport",
  "dir",
  "host",
  "port",
  "socket",
  "file",
  "fd",
  "experiment",
  "worker_id",
  "run_id",
  "resume_run_id",
  "resume_checkpoint",
  "world_size",
  "quiet",
];

/** This process's parent, as no other process is: its number and when it began. Null where it is none of `names`. */
function parent(names) {
  try {
    const [, name, rest] = /^\d+ \((.*)\) (.*)$/s.exec(readFileSync(`/proc/${process.ppid}/stat`, "utf-8"));
    return names.test(name) ? `${hostname()}/${process.ppid}/${rest.split(" ")[19]}` : null;
  } catch {
    return null;
  }
}

/** The step of srun's that a process belongs to. */
const step = (env) => [env.SLURM_JOB_ID, env.SLURM_STEP_ID];

/** EMT-7: rank and size, by launcher, and what its ranks share. */
const LAUNCHERS = [
  ["RANK", "WORLD_SIZE", (env) => [env.TORCHELASTIC_RUN_ID, parent(/./)]],
  ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", (env) => [env.OMPI_MCA_ess_base_jobid ?? env.PMIX_NAMESPACE]],
  [
    "PMI_RANK",
    "PMI_SIZE",
    (env) => (env.MPI_LOCALNRANKS === env.PMI_SIZE ? [parent(/^(mpiexec|mpirun|hydra)/)] : step(env)),
  ],
  ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", (env) => [env.SLURM_CLUSTER_NAME, ...step(env)]],
];

let runs = 0;
let firstRun;

const ESCAPES = { b: "\b", t: "\t", n: "\n", f: "\f", r: "\r" };
const PATHS = new Set(["dir", "file", "socket"]);

/** A basic string of TOML. */
const unescaped = (text) =>
  text.replace(/\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))/g, (_, four, eight, one) =>
    one === undefined ? String.fromCodePoint(parseInt(four ?? eight, 16)) : (ESCAPES[one] ?? one),
  );

/** EMT-1.5: of TOML what settings need: `name = value` at the top level, with a string, an integer or a boolean. */
function settingsOf(env) {
  let path = env.XTRACK_CONFIG;
  if (path === undefined || path === "") {
    let folder = process.cwd();
    while (!existsSync(join(folder, "xtrack.toml")) && dirname(folder) !== folder) folder = dirname(folder);
    path = join(folder, "xtrack.toml");
    if (!existsSync(path)) return {};
  } else if (!existsSync(path)) throw new Misconfigured(`XTRACK_CONFIG: there is no ${path}`);
  const out = {};
  for (const line of readFileSync(path, "utf-8").split("\n")) {
    const found = /^\s*([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^#\s]+))\s*(?:#.*)?$/.exec(line);
    if (line.trim().startsWith("[")) break;
    if (found === null) continue;
    const [, name, basic, literal, bare] = found;
    const value = basic === undefined ? (literal ?? { true: "1", false: "" }[bare] ?? bare) : unescaped(basic);
    out[name] = PATHS.has(name) && value !== "" ? resolve(dirname(path), value) : value; // EMT-1.6
  }
  return out;
}

function whole(text, name, least, most) {
  const value = /^[0-9]+$/.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most))
    throw new Misconfigured(`XTRACK_${name.toUpperCase()} is a whole number from ${least} to ${most}`);
  return value;
}

/** EMT-1.1, EMT-1.4: an empty variable is none. */
export function configuration(env = process.env) {
  const settings = settingsOf(env);
  const out = {};
  for (const name of NAMES) {
    const value = env[`XTRACK_${name.toUpperCase()}`] || settings[name];
    if (value !== undefined) out[name] = value;
  }
  out.transport ??= "local";
  if (!TRANSPORTS.has(out.transport))
    throw new Misconfigured(`XTRACK_TRANSPORT: there is no transport ${out.transport}`);
  if (out.port !== undefined) out.port = whole(out.port, "port", 1, 65_535);
  if (out.fd !== undefined) out.fd = whole(out.fd, "fd", 0, 2 ** 31 - 1);
  if (out.world_size !== undefined) out.world_size = whole(out.world_size, "world_size", 1, Number.MAX_SAFE_INTEGER);
  return out;
}

/** What a launcher tells this process, or null; `warn` of what can't be. */
function launched(env, warn) {
  for (const [rankName, sizeName, shared] of LAUNCHERS) {
    const [rank, size] = [env[rankName], env[sizeName] ?? (rankName === "SLURM_PROCID" ? env.SLURM_NTASKS : undefined)];
    if (rank === undefined || rank === "") continue;
    const fits = /^[0-9]+$/.test(rank) && /^[0-9]+$/.test(size ?? "") && Number(rank) < Number(size);
    if (!fits) {
      warn(`${rankName} was passed over: it is no rank below ${sizeName}`);
      continue;
    }
    const parts = shared(env);
    const id = parts.every((part) => part)
      ? `run-${createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16)}`
      : null;
    return { rank: Number(rank), size: Number(size), id };
  }
  return null;
}

/** Whether the last session of a worker has completed a run. */
function hasCompleted(run, worker) {
  const sessions = [...(run?.streams.values() ?? [])].filter(({ wid }) => wid === worker).map(({ events }) => [...events.values()]);
  const own = sessions.filter((all) => all.some(({ event }) => event.t === "run_start" && event.p.get("sub") !== true));
  const began = (all) => all.reduce((least, { event }) => (event.m.get("ts") < least ? event.m.get("ts") : least), 2n ** 63n);
  const last = own.reduce((one, other) => (one === null || began(other) > began(one) ? other : one), null);
  return last?.some(({ event }) => event.t === "run_end" && event.p.get("status") === "completed") ?? false;
}

/** EMT-7.4: the launch's run, or the next one where this worker has completed that. */
function launchRun(id, root, worker) {
  const { collection } = new Spool(root);
  for (let number = 1; ; number += 1) {
    const run = number === 1 ? id : `${id}-${number}`;
    if (!hasCompleted(collection.known(run), worker)) return run;
  }
}

function runIdOf(settings, launch, warn, root, worker) {
  runs += 1;
  if (runs > 1) return `run-${randomBytes(8).toString("hex")}`;
  if (settings.resume_run_id !== undefined) return settings.resume_run_id;
  if (settings.run_id !== undefined) return settings.run_id;
  if (launch !== null && launch.size > 1) {
    if (launch.id !== null) return launchRun(launch.id, root, worker);
    warn("the workers of this launch share nothing that names their run: set XTRACK_RUN_ID");
  }
  return `run-${randomBytes(8).toString("hex")}`;
}

/** FLD-8, EVT-RUN_START-6: the sessions of the run that this worker had. What they said stays (EMT-1.8). */
function resumeOf(settings, root, worker, launched) {
  const id = settings.resume_run_id ?? launched;
  if (id === undefined || runs > 1) return undefined;
  const run = new Spool(root).collection.known(id);
  const streams = [...(run?.streams.values() ?? [])].filter(({ wid }) => wid === worker);
  return new Map(streams.length > 0 ? [["sids", streams.map(({ sid }) => sid)]] : []);
}

/**
 * CTL-16.4 to CTL-16.6: how a connection comes about, in TLS where that is asked for. Nothing is told of one whose other end has another
 * certificate; `ready` is called of all others.
 */
function dial(target, { tls, authority, fingerprint }, ready) {
  if (!tls) {
    const made = connect(target);
    made.on("connect", ready);
    return made;
  }
  const pinned = fingerprint?.replace(/[: ]/g, "").toLowerCase();
  // A pinned one is trusted whatever it says of its signer, host and dates.
  const trust = pinned === undefined ? { ca: authority } : { rejectUnauthorized: false };
  const made = connectSecurely({ ...target, ...trust, minVersion: "TLSv1.2" });
  made.on("secureConnect", () => {
    const shown = createHash("sha256").update(made.getPeerCertificate().raw).digest("hex");
    if (pinned === undefined || pinned === shown) ready();
    else made.destroy();
  });
  return made;
}

/** Real connections, for tcp and unix. */
function lineTo(target, url, given = {}) {
  let socket = null;
  const line = {
    url,
    link: null,
    want() {
      let open = false;
      const made = dial(target, given, () => {
        open = true;
        line.link.connected(made.remoteAddress ?? "127.0.0.1");
      });
      socket = made;
      made.unref();
      made.on("data", (bytes) => socket === made && line.link.receive(bytes));
      made.on("error", () => {});
      made.on("close", () => {
        if (socket !== made) return;
        socket = null;
        if (open) line.link.disconnected();
        else line.link.refused();
      });
    },
    write: (bytes) => socket?.write(bytes),
    taken: () => (socket === null ? 0 : socket.bytesWritten - socket.writableLength),
    close() {
      const made = socket;
      socket = null;
      made?.end();
    },
  };
  return line;
}

/** Starts a run as the arguments, the environment and the settings say. Raises Misconfigured (EMT-3). */
export function start(given = {}, env = process.env) {
  const settings = configuration(env);
  const quiet = settings.quiet === "1";
  const tell = (text) => process.stderr.write(`${text}\n`);
  const warn = (text) => tell(`xtrack: warning: ${text}`);
  const launch = launched(env, warn);
  const root = resolve(settings.dir ?? join(homedir(), ".xtrack"));
  const worker = given.worker_id ?? settings.worker_id ?? (launch === null ? "" : String(launch.rank));
  const run = given.run_id ?? runIdOf(settings, launch, warn, root, worker);
  // EMT-7.3
  const size =
    given.world_size ?? settings.world_size ?? (launch !== null && launch.rank > 0 ? launch.size : undefined);
  const options = {
    ...given,
    run_id: run,
    worker_id: worker,
    experiment_id: given.experiment_id ?? settings.experiment,
    parent_id: given.parent_id ?? (firstRun !== undefined && given.run_id === undefined ? firstRun : undefined),
    world_size: size,
    resume: resumeOf(settings, root, worker, given.run_id === undefined && launch?.id ? run : undefined),
    quiet,
  };
  const clock = new RealClock();
  const { places, line } = transport(settings, root, clock, warn, given);
  const emitter = new Emitter({
    options,
    clock,
    places,
    line,
    orphans: (own, url) => orphansIn(root, own, url),
    tell: (text) => (quiet && !text.includes("warning") ? undefined : tell(text)),
  });
  firstRun ??= run;
  open.add(emitter);
  if (line !== null) line.link = emitter.link;
  emitter.place.listen?.((p) => emitter.command(p));
  return emitter;
}

function transport(settings, root, clock, warn, given) {
  if (given.fingerprint !== undefined && !/^[0-9a-f]{64}$/i.test(given.fingerprint.replace(/[: ]/g, "")))
    throw new Misconfigured("a fingerprint is a SHA-256: 64 hexadecimal digits");
  const spoolOf = (collector) => (stream) => new SpoolPlace(root, stream, clock, { collector, locks: true });
  const spool = spoolOf(true);
  const wrapped = (make) => (stream) => {
    try {
      return make(stream);
    } catch (error) {
      if (error.code === undefined) throw error;
      throw new Misconfigured(error.message);
    }
  };
  // EMT-2: with XTRACK_FD, frames go there.
  if (settings.fd !== undefined) return { places: wrapped((stream) => descriptor(settings.fd, stream)), line: null };
  switch (settings.transport) {
    case "null":
      return { places: (stream) => new Nowhere(stream), line: null };
    case "file":
      return { places: wrapped((stream) => new PlainFile(settings.file ?? "xtrack_events.bin", stream, warn)), line: null };
    case "stdio":
      if (THREE !== "pipe" && THREE !== "socket") throw new Misconfigured("descriptor 3 is no pipe: set XTRACK_FD");
      return { places: wrapped((stream) => descriptor(3, stream)), line: null };
    case "tcp": {
      const [host, port] = [settings.host ?? "localhost", settings.port ?? 9999];
      return { places: wrapped(spool), line: lineTo({ host, port }, `${given.tls ? "tls" : "tcp"}://${host}:${port}`, given) };
    }
    case "unix": {
      const path = settings.socket ?? "/tmp/xtrack.sock";
      return { places: wrapped(spool), line: lineTo({ path }, `unix:${path}`) };
    }
    default:
      return { places: wrapped(spoolOf(false)), line: null };
  }
}

/** EVT-TAGS-3: whoever annotates a run that is there has a stream of its own, without a start or an end. */
export function annotate({ run_id, tags }, env = process.env) {
  const clock = new RealClock();
  const stream = { run: run_id, wid: "", sid: randomBytes(16).toString("hex") };
  const root = resolve(configuration(env).dir ?? join(homedir(), ".xtrack"));
  const place = new SpoolPlace(root, stream, clock, { collector: false, locks: true });
  const m = new Map([["seq", 1n], ["ts", BigInt(Math.trunc(clock.wall() * 1000))], ["sid", stream.sid]]);
  const p = new Map([["run_id", run_id], ["tags", new Map(Object.entries(tags))]]);
  place.append(1n, encodePayload({ t: "tags", m, p }));
  place.end();
}

function descriptor(fd, stream) {
  if (kindOfDescriptor(fd) === "closed") throw new Misconfigured(`descriptor ${fd} is not open`);
  return new Descriptor(fd, stream);
}

const open = new Set();

function endAll(how) {
  for (const emitter of open) if (!emitter.ended) emitter.end({ ...how, timeout: 0 });
  open.clear();
}

/**
 * EMT-4: ends that nobody called. Signals are left alone (EMT-3.4), unless the program asks for `interrupts`: Ctrl-C ends a program of
 * Node's without another word.
 */
export function watchTheEnd({ interrupts = false } = {}) {
  let uncaught;
  process.on("uncaughtExceptionMonitor", (error) => {
    uncaught = { error };
  });
  process.on("exit", (code) => {
    if (uncaught !== undefined) endAll({ status: "failed", error: shownError(uncaught.error) });
    else if (code === 0) endAll({});
    else endAll({ status: "failed", error: `exit ${code}` });
  });
  if (!interrupts) return;
  process.once("SIGINT", () => {
    endAll({ status: "killed" });
    process.kill(process.pid, "SIGINT"); // by now nobody listens, so that it ends as it would have
  });
}

function shownError(error) {
  try {
    return String(error?.stack ?? error);
  } catch {
    return "an error that can't be shown";
  }
}
