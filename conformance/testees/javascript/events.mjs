/**
 * The tables of events.md and control.md, and of ENV-3: what each object holds, member by member.
 *
 * A slot is {kind, ...}; `req` marks the members that a table requires.
 */

const slot = (kind, rest = {}) => ({ kind, ...rest });
const req = (inner) => ({ ...inner, required: true });
const INTEGER = slot("integer");
const NUMBER = slot("number");
const BOOLEAN = slot("boolean");
const STRING = slot("string");
const FREE = slot("free");
const RUN_ID = slot("run_id");
const CHECKSUM = slot("checksum");
// EVT-RUN_START-5.1: strings of VAL-3 are strings here.
const NUMBER_OR_STRING = slot("number_or_string");
const closed = (...values) => slot("closed", { values: new Set(values) });
const list = (of) => slot("list", { of });
const map = (of) => slot("map", { of });
const object = (members) => slot("object", { members });
const pair = (...of) => slot("tuple", { of });

const LEVELS = ["debug", "info", "warning", "error"];

export const RUN_ID_MEMBERS = { id: req(STRING), exp_id: STRING, parent_id: STRING };

/** `m` (ENV-3). Here "" in `wid` and `sid` is absence (JSN-6.6). */
export const META = { seq: req(INTEGER), ts: req(INTEGER), wid: STRING, sid: STRING };

const SOURCE = {
  git_commit: STRING,
  git_branch: STRING,
  git_repo: STRING,
  entrypoint: STRING,
  code_hash: STRING,
};

const ENVIRONMENT = {
  python_version: STRING,
  platform: STRING,
  hostname: STRING,
  gpu_info: list(object({ name: STRING, memory: NUMBER_OR_STRING })),
  env_vars: map(STRING),
};

const CONTEXT = object({ phase: STRING, batch_size: INTEGER, dataset_size: INTEGER, agg: STRING });

/** The events of a run's history (events.md). */
export const RUN_EVENTS = {
  run_start: {
    run_id: req(RUN_ID),
    name: STRING,
    tags: map(STRING),
    source: object(SOURCE),
    env: object(ENVIRONMENT),
    resume: object({ sids: list(STRING), rewind_to: INTEGER }),
    world_size: INTEGER,
    sub: BOOLEAN,
    observer: BOOLEAN,
  },
  run_end: {
    run_id: req(RUN_ID),
    status: req(closed("completed", "failed", "killed")),
    error: object({ type: STRING, message: STRING, traceback: STRING }),
    final_metrics: map(NUMBER),
    duration_ms: INTEGER,
  },
  param: { run_id: req(RUN_ID), key: req(STRING), value: req(FREE), nested_key: list(STRING) },
  metric: {
    run_id: req(RUN_ID),
    key: req(STRING),
    value: req(NUMBER),
    step: INTEGER,
    epoch: INTEGER,
    ctx: CONTEXT,
  },
  metric_batch: {
    run_id: req(RUN_ID),
    metrics: req(map(NUMBER)),
    step: INTEGER,
    epoch: INTEGER,
    ctx: CONTEXT,
  },
  artifact: {
    run_id: req(RUN_ID),
    path: req(STRING),
    type: STRING,
    name: STRING,
    meta: map(FREE),
    size: INTEGER,
    checksum: CHECKSUM,
    upload: closed("reference", "inline", "stream"),
  },
  checkpoint: {
    run_id: req(RUN_ID),
    step: req(INTEGER),
    path: req(STRING),
    epoch: INTEGER,
    metrics: map(NUMBER),
    is_best: BOOLEAN,
    best_key: STRING,
    meta: map(FREE),
  },
  status: {
    run_id: req(RUN_ID),
    status: req(
      closed(
        "initializing",
        "running",
        "training",
        "evaluating",
        "checkpointing",
        "paused",
        "resuming",
        "finishing",
        "completed",
        "failed",
        "killed",
      ),
    ),
    msg: STRING,
    progress: object({ cur: INTEGER, total: INTEGER, unit: STRING }),
  },
  log: {
    run_id: req(RUN_ID),
    level: req(closed(...LEVELS)),
    msg: req(STRING),
    logger: STRING,
    step: INTEGER,
    fields: map(FREE),
  },
  tags: { run_id: req(RUN_ID), tags: req(map(STRING)) },
  alert: {
    run_id: req(RUN_ID),
    title: req(STRING),
    text: STRING,
    level: closed(...LEVELS),
    key: STRING,
  },
  summary: { run_id: req(RUN_ID), values: req(map(NUMBER)) },
};

/** The control events (control.md). */
export const CONTROL_EVENTS = {
  command: {
    cmd_id: req(STRING),
    type: req(STRING),
    payload: map(FREE),
    run_id: RUN_ID,
    wid: STRING,
  },
  ack: {
    seq: req(INTEGER),
    status: req(closed("ok", "error")),
    error: STRING,
    run_id: RUN_ID,
    wid: STRING,
    sid: STRING,
    rejected: list(pair(INTEGER, STRING)),
  },
  command_result: {
    run_id: req(RUN_ID),
    cmd_id: req(STRING),
    status: req(closed("ok", "error")),
    msg: STRING,
    wid: STRING,
    left: INTEGER,
  },
  hello: {
    protocols: req(list(INTEGER)),
    codecs: list(STRING),
    features: list(STRING),
    agent: STRING,
    auth: object({ scheme: req(STRING), key: STRING }),
  },
  welcome: {
    protocol: req(INTEGER),
    codec: req(STRING),
    durability: req(closed("none", "process", "power")),
    features: list(STRING),
    limits: object({ max_frame: INTEGER, window_events: INTEGER, window_bytes: INTEGER }),
  },
  reject: { code: req(STRING), msg: STRING, retry_after: NUMBER },
  open: { run_id: req(RUN_ID), sid: req(STRING), wid: STRING, passive: BOOLEAN },
  skip: {
    run_id: req(RUN_ID),
    sid: req(STRING),
    from: req(INTEGER),
    to: req(INTEGER),
    reason: STRING,
    wid: STRING,
  },
  ping: {},
  pong: {},
  subscribe: { run_id: req(RUN_ID), from: INTEGER, until_end: BOOLEAN },
  unsubscribe: { run_id: req(RUN_ID), code: STRING, msg: STRING },
};

export const isControl = (type) => Object.hasOwn(CONTROL_EVENTS, type);
export const isKnown = (type) => Object.hasOwn(RUN_EVENTS, type) || isControl(type);

/** The table of a type that is known. */
export const bodyOf = (type) => (isControl(type) ? CONTROL_EVENTS[type] : RUN_EVENTS[type]);
