"""What only a whole process shows: environment, descriptors, forks, threads, and ends that nobody called.

EMT-1, EMT-2, EMT-4, EMT-6, EMT-7, STR-3.
"""

from __future__ import annotations

from generate import emp_settings, emp_two
from generate.dsl import Json, dump
from generate.emitting import Emitting, call, metric, saw
from generate.processes import STDIO, add, begin, plain_calls, process


def cases() -> Emitting:
    """Return the group."""
    g = Emitting("emp")
    descriptor_cases(g)
    environment_cases(g)
    ending_cases(g)
    fork_cases(g)
    launch_cases(g)
    emp_two.add_to(g)
    emp_settings.add_to(g)
    return g


def descriptor_cases(g: Emitting) -> None:
    """EMT-2."""
    run = (begin(run_id="a"), metric())
    whole = [saw("run_start", 1, run_id="a"), saw("metric", 3), saw("run_end", 4)]
    add(
        g, "descriptor-3", "EMT-2.1 EMT-2.3",
        "a launcher has handed down a pipe there; standard output is the script's",
        process(*run, outputs={"3": whole, "1": []}, status=[0]), kills="emitter-frames-on-stdout",
    )  # fmt: skip
    add(
        g, "descriptor-3-a-socket", "EMT-2.1 VER-3.11", "or a socket",
        process(*run, descriptors={"3": "socket"}, outputs={"3": whole}), kind="boundary", kills="emitter-pipes-alone",
    )  # fmt: skip
    add(
        g, "descriptor-3-of-the-script", "EMT-2.2 EMT-1.3 EMT-3", "a file of the script's own: not a byte goes there",
        process(*run[:1], descriptors={"3": "file"}, calls=["raised"], outputs={"3": [], "1": []}), kind="invalid",
        kills="emitter-frames-on-a-file",
    )  # fmt: skip
    add(
        g, "no-descriptor-3", "EMT-2.1 EMT-1.3 EMT-2.3",
        "there is nowhere to write, and standard output is no such place",
        process(*run[:1], descriptors={}, calls=["raised"], outputs={"1": []}), kind="invalid",
        kills="emitter-frames-on-stdout",
    )  # fmt: skip
    add(
        g, "another-descriptor", "EMT-2 EMT-2.2 EMT-1", "XTRACK_FD names it; 3 is somebody else's then",
        process(*run, env={**STDIO, "XTRACK_FD": "7"}, descriptors={"3": "pipe", "7": "pipe"},
                outputs={"7": whole, "3": []}), kills="emitter-ignores-XTRACK_FD",
    )  # fmt: skip
    add(
        g, "standard-output-when-asked", "EMT-2.3 EMT-2", "in so many words: XTRACK_FD=1",
        process(*run, env={**STDIO, "XTRACK_FD": "1"}, descriptors={}, outputs={"1": whole}), kind="boundary", kills="emitter-ignores-XTRACK_FD",
    )  # fmt: skip
    add(
        g, "descriptor-that-is-closed", "EMT-1.3 EMT-3 EMT-2", "it can't be used: said when the run is started",
        process(*run[:1], env={**STDIO, "XTRACK_FD": "9"}, descriptors={}, calls=["raised"]), kind="invalid", kills="emitter-closed-descriptor-is-nowhere",
    )  # fmt: skip
    frame = [{"frame": [{"text": dump({"t": "command", "v": 1, "m": {"seq": 0, "ts": 1},
                                       "p": {"cmd_id": "c1", "type": "pause"}})}]}]  # fmt: skip
    answer = [saw("log", msg="command_result", logger="xtrack", fields={"cmd_id": "c1", "status": "ok"})]
    look = {"do": "call", "call": "commands"}
    add(
        g, "commands-on-the-descriptor", "EMT-2.5 CTL-4", "a socket has both directions",
        process(*run, look, descriptors={"3": "socket"}, send={"3": frame}, outputs={"3": answer}), level="SHOULD",
    )  # fmt: skip
    add(
        g, "commands-on-standard-input", "EMT-2.5 CTL-4", "a pipe has one, and standard input has the other",
        process(*run, look, stdin=frame, outputs={"3": answer}), level="SHOULD",
    )  # fmt: skip
    add(
        g, "commands-on-another-descriptor", "EMT-2.5 EMT-2 CTL-4", "XTRACK_FD names a socket: commands come there, too",
        process(*run, look, env={**STDIO, "XTRACK_FD": "7"}, descriptors={"7": "socket"}, send={"7": frame},
                outputs={"7": answer}), level="SHOULD", kind="boundary",
    )  # fmt: skip
    damaged: list[Json] = [{"frame": [{"text": '{"t":"command","v":1,"m":{"seq":0,"ts":1},"p":{"type":"pause"}}'}]}]
    add(
        g, "commands-behind-a-bad-one", "EMT-2.5 CTL-4 ERR-4", "a command that names no id costs itself alone",
        process(*run, look, stdin=damaged + frame, outputs={"3": answer}), level="SHOULD", kind="invalid",
    )  # fmt: skip
    add(
        g, "no-added-types-on-a-descriptor", "VER-3.1 VER-3.2 VER-3.11", "whoever reads there is a plain peer",
        process(*run, call("tags", tags={"a": "b"}), call("alert", title="t", text="x"),
                outputs={"3": [saw("log", 4, msg="tags", logger="xtrack", fields={"a": "b"}), saw("log", 5,
                msg="t: x")]},
                never=[saw("tags"), saw("alert")]), kills="emitter-added-types-on-a-descriptor",
    )  # fmt: skip


def environment_cases(g: Emitting) -> None:
    """EMT-1."""
    whole = [saw("run_start", 1), saw("metric", 3), saw("run_end", 4)]
    add(
        g, "file", "EMT-1 MSG-1.2", "XTRACK_FILE names the file, and JSON stands in it", process(
            begin(run_id="a"), metric(), env={"XTRACK_TRANSPORT": "file", "XTRACK_FILE": "run.bin"}, descriptors={},
            read=["run.bin"], outputs={"run.bin": whole, "1": []}, recording=True,
        ), kills="emitter-ignores-XTRACK_FILE",
    )  # fmt: skip
    add(
        g, "added-types-in-a-file", "VER-3.13 EMT-1", "a file is nobody's connection: everything stands in it as it is", process(
            begin(run_id="a"), call("tags", tags={"a": "b"}), call("alert", title="t", level="info"),
            env={"XTRACK_TRANSPORT": "file", "XTRACK_FILE": "run.bin"}, descriptors={}, read=["run.bin"],
            outputs={"run.bin": [saw("tags", 3, tags={"a": "b"}), saw("alert", 4, title="t")]}, recording=True,
        ), kills="emitter-plain-files",
    )  # fmt: skip
    add(
        g, "no-added-types-on-a-descriptor-of-a-file", "VER-3.13 VER-3.11 EMT-2", "a file on a descriptor that was handed down may be a pipe tomorrow", process(
            begin(run_id="a"), call("tags", tags={"a": "b"}), env={**STDIO, "XTRACK_FD": "7"}, descriptors={"7": "file"},
            outputs={"7": [saw("run_start", 1), saw("log", 3, msg="tags", logger="xtrack", fields={"a": "b"})]},
        ), kind="boundary", kills="emitter-added-types-on-files",
    )  # fmt: skip
    add(
        g, "file-by-default", "EMT-1", "xtrack_events.bin, where no name is given", process(
            begin(run_id="a"), metric(), env={"XTRACK_TRANSPORT": "file"}, descriptors={},
            read=["xtrack_events.bin"], outputs={"xtrack_events.bin": whole}, recording=True,
        ), kind="boundary", kills="emitter-another-file-by-default",
    )  # fmt: skip
    add(
        g, "nowhere", "EMT-1 EMT-2.3 EMT-2.2", "null: nothing is written, and all calls return", process(
            begin(run_id="a"), metric(), env={"XTRACK_TRANSPORT": "null"}, calls=["returned", "returned"],
            outputs={"3": [], "1": []},
        ), kind="boundary", kills="emitter-null-is-the-default",
    )  # fmt: skip
    for name, variable, value, wanted in (
        ("run-id", "XTRACK_RUN_ID", "r7", saw("run_start", 1, run_id="r7")),
        ("resumed-run", "XTRACK_RESUME_RUN_ID", "r8", saw("run_start", 1, run_id="r8")),
        ("experiment", "XTRACK_EXPERIMENT", "e7", saw("run_start", 1, run_id={"exp_id": "e7"})),
        ("worker", "XTRACK_WORKER_ID", "w7", {"t": "run_start", "m": {"wid": "w7"}}),
        ("world-size", "XTRACK_WORLD_SIZE", "4", saw("run_start", 1, world_size=4)),
    ):
        add(
            g, f"variable-{name}", "EMT-1 EMT-1.3 EMT-3", f"{variable} is read",
            process(begin(), metric(), env={**STDIO, variable: value}, outputs={"3": [wanted]}),
            kills=f"emitter-ignores-{variable}",
        )  # fmt: skip
        add(
            g, f"empty-{name}", "EMT-1.4 EMT-1.3", f"an empty {variable} is as good as none",
            process(begin(), env={**STDIO, variable: ""}, outputs={"3": [saw("run_start", 1)]}, calls=["returned"]),
            kind="boundary" if name == "world-size" else "valid", kills="emitter-empty-variables-are-errors",
        )  # fmt: skip
    add(
        g, "arguments-outweigh-the-environment", "EMT-1.1", "what the script says is closer to the user", process(
            begin(run_id="mine", worker_id="2", experiment_id="other", world_size=3),
            env={**STDIO, "XTRACK_RUN_ID": "x", "XTRACK_WORKER_ID": "9", "XTRACK_EXPERIMENT": "e",
            "XTRACK_WORLD_SIZE": "8"},
            outputs={"3": [{"t": "run_start", "m": {"wid": "2"},
                            "p": {"run_id": {"id": "mine", "exp_id": "other"}, "world_size": 3}}]},
        ), kills="emitter-environment-first",
    )  # fmt: skip
    add(
        g, "unusable-argument", "EMT-1.1 EMT-3", "it outweighs a variable that could be used, and is an error as it is",
        process(begin(worker_id="w" * 1025), env={**STDIO, "XTRACK_WORKER_ID": "w7"}, calls=["raised"], outputs={"3": []}),
        kind="invalid", kills="emitter-environment-first",
    )  # fmt: skip
    two = (begin(), metric("first"), call("end"), begin(), metric("second"), call("end"))
    add(
        g, "the-second-run", "EMT-1.2", "XTRACK_RUN_ID is the first one's; the second has its own, and a parent",
        process(
            *two, env={**STDIO, "XTRACK_RUN_ID": "r7"}, streams=2,
            outputs={"3": [saw("run_start", 1, run_id="r7"), saw("run_end", run_id="r7"),
                           saw("run_start", 1, run_id={"id": {"$not": "r7"}, "parent_id": "r7"}),
                           saw("metric", 3, run_id={"$not": "r7"}, key="second")]},
        ), kills="emitter-one-run-id-for-all",
    )  # fmt: skip
    three = [begin(), call("end")] * 3
    add(
        g, "the-third-run", "EMT-1.2", "the parent of the third is the first one, too, and its id is another than the second's",
        process(
            *three, env={**STDIO, "XTRACK_RUN_ID": "r7"}, streams=3,
            outputs={"3": [saw("run_start", 1, run_id="r7"),
                           saw("run_start", 1, run_id={"id": {"$bind": "second"}, "parent_id": "r7"}),
                           saw("run_start", 1, run_id={"id": {"$not": "@second@"}, "parent_id": "r7"})]},
        ), kind="boundary", kills="emitter-one-run-id-for-all",
    )  # fmt: skip
    add(
        g, "two-runs-without-a-name", "STR-1.1 EVT-1.7", "two runs of one process are two",
        process(*two, streams=2, outputs={"3": [
            {**saw("run_start", run_id={"$bind": "one"}), "m": {"sid": {"$bind": "sid"}}}, saw("run_end", run_id="@one@"),
            {**saw("run_start"), "m": {"sid": {"$not": "@sid@"}}}, saw("run_end"),
        ]}), kind="boundary", kills="emitter-reuses-session-ids",
    )  # fmt: skip
    for name, env in (
        ("transport", {"XTRACK_TRANSPORT": "pigeon"}),
        ("port", {"XTRACK_TRANSPORT": "tcp", "XTRACK_PORT": "many"}),
        ("descriptor", {**STDIO, "XTRACK_FD": "three"}),
        ("world-size", {**STDIO, "XTRACK_WORLD_SIZE": "all"}),
        ("port-0", {"XTRACK_TRANSPORT": "tcp", "XTRACK_PORT": "70000"}),
        ("run-id", {**STDIO, "XTRACK_RUN_ID": "r" * 1025}),
        ("config", {**STDIO, "XTRACK_CONFIG": "no-such-file.toml"}),
    ):
        add(
            g, f"unusable-{name}", f"EMT-1.3 EMT-3 EMT-1{' EMT-1.2' if name == 'run-id' else ''}", "said when the run is started, not found out at its end",
            process(begin(), env=env, calls=["raised"], outputs={"3": []}), kind="invalid",
            kills={"run-id": "emitter-long-ids-cut", "config": "emitter-ignores-a-missing-config"}.get(
                name, "emitter-swallows-configuration-errors"
            ),
        )  # fmt: skip
    add(
        g, "quiet", "EMT-1 EMT-3.5", "XTRACK_QUIET=1: no lines",
        process(begin(run_id="a"), call("end"), env={**STDIO, "XTRACK_QUIET": "1"}, max_lines=0), kind="boundary",
        level="SHOULD",
    )  # fmt: skip
    add(
        g, "two-lines", "EMT-3.5", "one line when the run starts, and one when it ends",
        process(begin(run_id="a"), call("end"), min_lines=2, max_lines=2), level="SHOULD",
    )  # fmt: skip
    add(
        g, "no-lines-of-other-workers", "EMT-3.5", "on the first worker only",
        process(begin(run_id="a", worker_id="5"), call("end"), max_lines=0), level="SHOULD", kind="boundary",
    )  # fmt: skip
    add(
        g, "secrets-stay", "EVT-RUN_START-5", "only variables on an allowlist stand in env_vars",
        process(begin(run_id="a"), env={**STDIO, "AWS_SECRET_ACCESS_KEY": "s3cr3t", "DATABASE_PASSWORD": "s3cr3t"},
                outputs={"3": [saw("run_start", 1, env={"$lacks": "s3cr3t"})]}), kind="invalid",
        kills="emitter-sends-the-environment",
    )  # fmt: skip


def ending_cases(g: Emitting) -> None:
    """EMT-4."""
    for ending, status, exits in (
        ("return", "completed", [0]),
        ("exit 0", "completed", [0]),
        ("exit 3", "failed", [3]),
        ("exception", "failed", [1]),
        ("interrupt", "killed", [130, -2, 1]),
    ):
        wanted = {"status": status} | ({"error": {}} if status == "failed" else {})
        add(
            g, f"process-ends-by-{ending.replace(' ', '-')}", "EMT-4 EVT-RUN_END-2 EVT-RUN_END-2.1" +
            (" EVT-RUN_END-3" if status == "failed" else "") + (" EMT-3.4" if ending == "interrupt" else ""),
            "nobody has called end, and the run has one",
            process(begin(run_id="a"), metric(), ending=ending, status=exits,
                    outputs={"3": [saw("metric", 3), saw("run_end", 4, **wanted)]}),
            kind="valid" if ending == "return" else "boundary",
            kills="emitter-no-end-at-exit" + ("" if status == "completed" else " emitter-always-well-at-exit"),
            level="SHOULD" if ending == "interrupt" else "MUST",  # as far as it can see: some see no interrupt
        )  # fmt: skip
    add(
        g, "ended-before-the-process", "EMT-4 EVT-RUN_END-2.1", "what the script has said stands",
        process(begin(run_id="a"), call("end", status="failed", error="mine"), ending="return",
                outputs={"3": [saw("run_end", 3, status="failed")]}, never=[saw("run_end", status="completed")]),
        kind="boundary", kills="emitter-ends-when-the-process-does",
    )  # fmt: skip
    add(
        g, "terminated", "EMT-3.4 DLV-1", "no handler is installed: SIGTERM ends the process as ever",
        process(begin(run_id="a"), metric(), ending="terminate", status=[-15, 143], outputs={"3": [saw("metric", 3)]}),
        kind="invalid", kills="emitter-catches-signals emitter-keeps-frames-in-the-process",
    )  # fmt: skip
    add(
        g, "terminated-at-once", "DLV-1 EMT-3.4", "what was logged by the call before is out of the process, the first event as well",
        process(begin(run_id="a"), ending="terminate", status=[-15, 143], outputs={"3": [saw("run_start", 1)]}),
        kind="boundary", kills="emitter-catches-signals emitter-keeps-frames-in-the-process",
    )  # fmt: skip
    add(
        g, "two-runs-at-the-end", "EMT-4", "each run that is open gets its end",
        process(begin(run_id="a"), begin(run_id="b"), ending="return", streams=2,
                outputs={"3": [saw("run_end", run_id="a"), {"$rewind": True}, saw("run_end", run_id="b")]}),
        kind="boundary", kills="emitter-no-end-at-exit",
    )  # fmt: skip


def fork_cases(g: Emitting) -> None:
    """STR-3, EMT-6."""

    def fork(*calls: Json) -> Json:
        return {"do": "call", "call": "fork", "calls": plain_calls(*calls)}

    add(
        g, "forked-child", "STR-3 STR-3.1 STR-3.2 EVT-RUN_START-7.1 STR-1.1 STR-3.3",
        "a stream of its own, with sub, and a new session id",
        process(begin(run_id="a"), metric("before"), fork(metric("child")), metric("after"), streams=2, outputs={"3": [
            {"t": "run_start", "m": {"seq": 1, "sid": {"$bind": "parent"}}, "p": {"run_id": "a"}},
            {"$rewind": True}, {"t": "run_start", "m": {"seq": 1, "sid": {"$not": "@parent@"}}, "p": {"sub": True}},
            {"t": "metric", "m": {"sid": {"$not": "@parent@"}}, "p": {"key": "child"}},
            {"$rewind": True}, {"t": "metric", "m": {"seq": 4, "sid": "@parent@"}, "p": {"key": "after"}},
            {"t": "run_end", "m": {"sid": "@parent@"}},
        ]}), needs="forks", kills="emitter-child-writes-as-parent",
    )  # fmt: skip
    add(
        g, "forked-child-that-logs-nothing", "STR-3.1 STR-3", "no event, no stream; and the run is its parent's to end",
        process(begin(run_id="a"), fork(), metric(), streams=1,
                outputs={"3": [saw("metric", 3), saw("run_end", 4, status="completed")]}), needs="forks",
        kind="boundary", kills="emitter-child-ends-the-run",
    )  # fmt: skip
    add(
        g, "two-forked-children", "STR-3 STR-3.1 STR-3.2", "three processes, three streams",
        process(begin(run_id="a"), fork(metric("one")), fork(metric("two")), metric("three"), streams=3,
                outputs={"3": [saw("metric", key="one"), {"$rewind": True}, saw("metric", key="two"), {"$rewind": True},
                               saw("metric", 3, key="three"), {"$rewind": True},
                               saw("run_start", 1, sub=True), saw("run_start", 1, sub=True)]}),
        needs="forks", kind="boundary",
        kills="emitter-child-writes-as-parent",
    )  # fmt: skip
    add(
        g, "forked-child-of-a-worker", "STR-3.2 ENV-3.5", "the child is of the same worker",
        process(begin(run_id="a", worker_id="4"), fork(metric("child")), streams=2,
                outputs={"3": [{"t": "run_start", "m": {"wid": "4"}, "p": {"sub": True}}]}), needs="forks", kills="emitter-child-is-no-worker",
    )  # fmt: skip
    threads = {"do": "call", "call": "threads", "count": 8,
               "calls": plain_calls(*(metric(f"m{n}") for n in range(40)))}  # fmt: skip
    add(
        g, "threads", "EMT-6 ENV-4.6 ENV-4.1", "each event takes its seq and its place in one step",
        process(begin(run_id="a"), threads, call("end"), streams=1, outputs={"3": [saw("run_end", 323)]}),
        needs="threads", kills="emitter-numbers-without-a-lock",
    )  # fmt: skip
    add(
        g, "threads-and-a-file", "EMT-6 ENV-4.6", "in a file as well", process(
            begin(run_id="a"), threads, call("end"), env={"XTRACK_TRANSPORT": "file", "XTRACK_FILE": "f"}, read=["f"],
            descriptors={}, outputs={"f": [saw("run_end", 323)]}, streams=1, recording=True,
        ), needs="threads", kind="boundary", kills="emitter-numbers-without-a-lock",
    )  # fmt: skip


def launch_cases(g: Emitting) -> None:
    """EMT-7."""
    slurm = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_CLUSTER_NAME": "c"}
    for name, env in (
        ("torchrun", {"RANK": "1", "WORLD_SIZE": "4"}),
        ("open-mpi", {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}),
        ("mpich", {"PMI_RANK": "1", "PMI_SIZE": "4"}),
        ("slurm", {**slurm, "SLURM_PROCID": "1"}),
        ("torchrun-with-zeros", {"RANK": "01", "WORLD_SIZE": "4"}),
    ):
        add(
            g, f"rank-by-{name}", "EMT-7 EMT-7.1", "the launcher has said which worker this is",
            process(begin(run_id="a"), env={**STDIO, **env}, outputs={"3": [{"t": "run_start", "m": {"wid": "1"}}]}),
            level="SHOULD", kills={"torchrun": "emitter-ignores-ranks", "torchrun-with-zeros": "emitter-ranks-as-texts"}.get(name, ""),
        )  # fmt: skip
    add(
        g, "rank-and-an-argument", "EMT-7 EMT-1.1", "an argument outweighs the launcher",
        process(begin(run_id="a", worker_id="x"), env={**STDIO, "RANK": "1", "WORLD_SIZE": "4"},
                outputs={"3": [{"t": "run_start", "m": {"wid": "x"}}]}), kind="boundary", kills="emitter-environment-first",
    )  # fmt: skip
    for name, env in (
        ("not-below-the-size", {"RANK": "4", "WORLD_SIZE": "4"}),
        ("no-number", {"RANK": "one", "WORLD_SIZE": "4"}),
        ("negative", {"RANK": "-1", "WORLD_SIZE": "4"}),
    ):
        add(
            g, f"rank-{name}", "EMT-7.1 EMT-7", "it is no place among them: passed over, with a warning",
            process(begin(run_id="a"), env={**STDIO, "XTRACK_QUIET": "1", **env}, min_lines=1,
                    outputs={"3": [{"t": "run_start", "m": {"wid": {"$absent": True}}}]}), kind="invalid",
            kills="emitter-takes-any-rank" if name == "not-below-the-size" else "emitter-passes-over-ranks-in-silence",
        )  # fmt: skip
    add(
        g, "rank-without-a-size", "EMT-7.1", "another program's variable, perhaps",
        process(begin(run_id="a"), env={**STDIO, "RANK": "1"},
                outputs={"3": [{"t": "run_start", "m": {"wid": {"$absent": True}}}]}), kind="boundary", kills="emitter-rank-without-a-size",
    )  # fmt: skip
    add(
        g, "one-run-for-a-launch", "EMT-7.2",
        "its workers share job and step, and so the run; another job has another", *(
            process(begin(), env={**STDIO, **slurm, "SLURM_PROCID": rank, "SLURM_JOB_ID": job},
                    outputs={"3": [saw("run_start", 1, run_id=wanted)]})
            for rank, job, wanted in (("0", "77", {"$bind": "launch"}), ("1", "77", "@launch@"),
                                      ("0", "78", {"$not": "@launch@"}))
        ), kills="emitter-own-run-for-each-rank",
    )  # fmt: skip
    add(
        g, "another-step-of-the-job", "EMT-7.2", "two steps of one job are two launches; a step's last rank is of its first one's", *(
            process(begin(), env={**STDIO, **slurm, "SLURM_PROCID": rank, "SLURM_STEP_ID": step},
                    outputs={"3": [saw("run_start", 1, run_id=wanted)]})
            for rank, step, wanted in (("0", "0", {"$bind": "launch"}), ("1", "0", "@launch@"),
                                       ("0", "1", {"$not": "@launch@"}))
        ), kind="boundary", kills="emitter-own-run-for-each-rank emitter-one-run-for-a-job",
    )  # fmt: skip
    hydra = {**STDIO, "XTRACK_QUIET": "1", "PMI_SIZE": "4", "MPI_LOCALNRANKS": "2"}
    add(
        g, "ranks-on-several-hosts", "EMT-7.2", "mpiexec's process on one host says nothing to the ranks on another: they are told what would help", *(
            process(begin(), env={**hydra, "PMI_RANK": "0"}, min_lines=1, outputs={"3": [saw("run_start", 1, run_id=wanted)]})
            for wanted in ({"$bind": "launch"}, {"$not": "@launch@"})
        ), kind="invalid", kills="emitter-hosts-of-their-own",
    )  # fmt: skip
    add(
        g, "ranks-on-several-hosts-of-a-step", "EMT-7.2", "the step of srun's by which mpiexec has started them is the same on all", *(
            process(begin(), env={**hydra, **slurm, "SLURM_PROCID": "0", "PMI_RANK": rank, "SLURM_STEP_ID": step},
                    outputs={"3": [saw("run_start", 1, run_id=wanted)]})
            for rank, step, wanted in (("0", "0", {"$bind": "launch"}), ("3", "0", "@launch@"),
                                       ("0", "1", {"$not": "@launch@"}))
        ), kind="boundary", kills="emitter-own-run-for-each-rank emitter-one-run-for-a-job emitter-hosts-of-their-own",
    )  # fmt: skip
    add(
        g, "nothing-that-names-the-launch", "EMT-7.2", "ranks that share nothing are told what would help",
        process(begin(), env={**STDIO, "XTRACK_QUIET": "1", "PMI_RANK": "0", "PMI_SIZE": "2"}, min_lines=1),
        kind="invalid", kills="emitter-shared-nothing-in-silence",
    )  # fmt: skip
    add(
        g, "world-size-of-a-launch", "EMT-7.3", "every rank but 0 says how many there are",
        process(begin(run_id="a"), env={**STDIO, "RANK": "2", "WORLD_SIZE": "4"},
                outputs={"3": [saw("run_start", 1, world_size=4)]}), level="SHOULD",
    )  # fmt: skip
    add(
        g, "world-size-of-rank-0", "EMT-7.3", "where only rank 0 logs, it needs nobody else",
        process(begin(run_id="a"), env={**STDIO, "RANK": "0", "WORLD_SIZE": "4"},
                outputs={"3": [saw("run_start", 1, world_size={"$absent": True})]}), level="SHOULD", kind="boundary",
    )  # fmt: skip
