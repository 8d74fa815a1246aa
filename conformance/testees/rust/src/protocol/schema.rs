//! The tables of the specification: what each event holds.

use super::Value;
use Presence::{Optional, Required};
use Slot::{Bool, Free, Int, List, Map, Number, Object, OneOf, RunId, Text};

/// The kind of value that a member takes (VAL).
#[derive(Debug)]
pub enum Slot {
    Int,
    Number,
    Bool,
    Text,
    /// A closed set (VAL-6). Open sets are texts (VAL-7).
    OneOf(&'static [&'static str]),
    Free,
    /// Of the memory of an accelerator (EVT-RUN_START-5.1).
    NumberOrText,
    /// VAL-8.
    Checksum,
    /// EVT-1.3. In a `run_start` alone it may be written as an object (EVT-1.5).
    RunId {
        of_start: bool,
    },
    List(&'static Slot),
    /// A list of as many items as there are slots.
    Tuple(&'static [Slot]),
    Map(&'static Slot),
    Object(&'static [Member]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Required,
    Optional,
}

/// One line of a table.
#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    pub presence: Presence,
    pub slot: Slot,
}

impl Member {
    /// Whether `value` is taken as absence is (JSN-6.5, JSN-6.6).
    pub fn takes_as_absent(&self, value: &Value) -> bool {
        let says_nothing = match (&self.slot, value) {
            (List(_), Value::List(items)) => items.is_empty(),
            (Map(_), Value::Object(members)) => members.is_empty(),
            (Text, Value::Text(text)) => matches!(self.name, "wid" | "sid") && text.is_empty(),
            _ => false,
        };
        self.presence == Optional && says_nothing
    }
}

/// A type of event.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// A control event belongs to no stream (CTL-1).
    pub is_control: bool,
    pub body: &'static [Member],
}

/// The type of event with this name, where the specification has one.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

const fn required(name: &'static str, slot: Slot) -> Member {
    Member {
        name,
        presence: Required,
        slot,
    }
}

const fn optional(name: &'static str, slot: Slot) -> Member {
    Member {
        name,
        presence: Optional,
        slot,
    }
}

const fn event(name: &'static str, body: &'static [Member]) -> Kind {
    Kind {
        name,
        is_control: false,
        body,
    }
}

const fn control(name: &'static str, body: &'static [Member]) -> Kind {
    Kind {
        name,
        is_control: true,
        body,
    }
}

const RUN: Slot = RunId { of_start: false };

/// ENV-3.
pub const META: &[Member] = &[
    required("seq", Int),
    required("ts", Int),
    optional("wid", Text),
    optional("sid", Text),
];

/// EVT-1.3, the object form.
pub const RUN_ID: &[Member] = &[
    required("id", Text),
    optional("exp_id", Text),
    optional("parent_id", Text),
];

const SOURCE: &[Member] = &[
    optional("git_commit", Text),
    optional("git_branch", Text),
    optional("git_repo", Text),
    optional("entrypoint", Text),
    optional("code_hash", Text),
];

const GPU: &[Member] = &[optional("name", Text), optional("memory", Slot::NumberOrText)];

const ENVIRONMENT: &[Member] = &[
    optional("python_version", Text),
    optional("platform", Text),
    optional("hostname", Text),
    optional("gpu_info", List(&Object(GPU))),
    optional("env_vars", Map(&Text)),
];

const RESUME: &[Member] = &[optional("sids", List(&Text)), optional("rewind_to", Int)];

const ERROR: &[Member] = &[
    optional("type", Text),
    optional("message", Text),
    optional("traceback", Text),
];

const CONTEXT: &[Member] = &[
    optional("phase", Text),
    optional("batch_size", Int),
    optional("dataset_size", Int),
    optional("agg", Text),
];

const PROGRESS: &[Member] = &[optional("cur", Int), optional("total", Int), optional("unit", Text)];

const AUTH: &[Member] = &[required("scheme", Text), optional("key", Text)];

const LIMITS: &[Member] = &[
    optional("max_frame", Int),
    optional("window_events", Int),
    optional("window_bytes", Int),
];

const LEVEL: Slot = OneOf(&["debug", "info", "warning", "error"]);
const OUTCOME: Slot = OneOf(&["ok", "error"]);

static KINDS: &[Kind] = &[
    event(
        "run_start",
        &[
            required("run_id", RunId { of_start: true }),
            optional("name", Text),
            optional("tags", Map(&Text)),
            optional("source", Object(SOURCE)),
            optional("env", Object(ENVIRONMENT)),
            optional("resume", Object(RESUME)),
            optional("world_size", Int),
            optional("sub", Bool),
            optional("observer", Bool),
        ],
    ),
    event(
        "run_end",
        &[
            required("run_id", RUN),
            required("status", OneOf(&["completed", "failed", "killed"])),
            optional("error", Object(ERROR)),
            optional("final_metrics", Map(&Number)),
            optional("duration_ms", Int),
        ],
    ),
    event(
        "param",
        &[
            required("run_id", RUN),
            required("key", Text),
            required("value", Free),
            optional("nested_key", List(&Text)),
        ],
    ),
    event(
        "metric",
        &[
            required("run_id", RUN),
            required("key", Text),
            required("value", Number),
            optional("step", Int),
            optional("epoch", Int),
            optional("ctx", Object(CONTEXT)),
        ],
    ),
    event(
        "metric_batch",
        &[
            required("run_id", RUN),
            required("metrics", Map(&Number)),
            optional("step", Int),
            optional("epoch", Int),
            optional("ctx", Object(CONTEXT)),
        ],
    ),
    event(
        "artifact",
        &[
            required("run_id", RUN),
            required("path", Text),
            optional("type", Text),
            optional("name", Text),
            optional("meta", Map(&Free)),
            optional("size", Int),
            optional("checksum", Slot::Checksum),
            optional("upload", OneOf(&["reference", "inline", "stream"])),
        ],
    ),
    event(
        "checkpoint",
        &[
            required("run_id", RUN),
            required("step", Int),
            required("path", Text),
            optional("epoch", Int),
            optional("metrics", Map(&Number)),
            optional("is_best", Bool),
            optional("best_key", Text),
            optional("meta", Map(&Free)),
        ],
    ),
    event(
        "status",
        &[
            required("run_id", RUN),
            required(
                "status",
                OneOf(&[
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
                ]),
            ),
            optional("msg", Text),
            optional("progress", Object(PROGRESS)),
        ],
    ),
    event(
        "log",
        &[
            required("run_id", RUN),
            required("level", LEVEL),
            required("msg", Text),
            optional("logger", Text),
            optional("step", Int),
            optional("fields", Map(&Free)),
        ],
    ),
    event("tags", &[required("run_id", RUN), required("tags", Map(&Text))]),
    event(
        "alert",
        &[
            required("run_id", RUN),
            required("title", Text),
            optional("text", Text),
            optional("level", LEVEL),
            optional("key", Text),
        ],
    ),
    event("summary", &[required("run_id", RUN), required("values", Map(&Number))]),
    control(
        "command",
        &[
            required("cmd_id", Text),
            required("type", Text),
            optional("payload", Map(&Free)),
            optional("run_id", RUN),
            optional("wid", Text),
        ],
    ),
    control(
        "ack",
        &[
            required("seq", Int),
            required("status", OUTCOME),
            optional("error", Text),
            optional("run_id", RUN),
            optional("wid", Text),
            optional("sid", Text),
            optional("rejected", List(&Slot::Tuple(&[Int, Text]))),
        ],
    ),
    control(
        "command_result",
        &[
            required("run_id", RUN),
            required("cmd_id", Text),
            required("status", OUTCOME),
            optional("msg", Text),
            optional("wid", Text),
            optional("left", Int),
        ],
    ),
    control(
        "hello",
        &[
            required("protocols", List(&Int)),
            optional("codecs", List(&Text)),
            optional("features", List(&Text)),
            optional("agent", Text),
            optional("auth", Object(AUTH)),
        ],
    ),
    control(
        "welcome",
        &[
            required("protocol", Int),
            required("codec", Text),
            required("durability", OneOf(&["none", "process", "power"])),
            optional("features", List(&Text)),
            optional("limits", Object(LIMITS)),
        ],
    ),
    control(
        "reject",
        &[
            required("code", Text),
            optional("msg", Text),
            optional("retry_after", Number),
        ],
    ),
    control(
        "open",
        &[
            required("run_id", RUN),
            required("sid", Text),
            optional("wid", Text),
            optional("passive", Bool),
        ],
    ),
    control(
        "skip",
        &[
            required("run_id", RUN),
            required("sid", Text),
            required("from", Int),
            required("to", Int),
            optional("reason", Text),
            optional("wid", Text),
        ],
    ),
    control("ping", &[]),
    control("pong", &[]),
    control(
        "subscribe",
        &[
            required("run_id", RUN),
            optional("from", Int),
            optional("until_end", Bool),
        ],
    ),
    control(
        "unsubscribe",
        &[required("run_id", RUN), optional("code", Text), optional("msg", Text)],
    ),
];
