"""What shows between processes: those of one launch, of one run, of one file, and what they leave for each other.

CTL-16.4 to CTL-16.6, EMT-7.4, EMT-7.5, EVT-RUN_START-4, EVT-RUN_START-6, EVT-TAGS-3, RST-1.3, STR-3.3.
"""

from __future__ import annotations

from typing import Any

from generate.dsl import Json
from generate.emitting import Emitting, call, do, metric, saw
from generate.processes import STDIO, add, begin, plain_calls, process

LOCAL = {"XTRACK_TRANSPORT": "local"}
SLURM = {
    **LOCAL, "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_CLUSTER_NAME": "c",
    "SLURM_PROCID": "1",
}  # fmt: skip


def add_to(g: Emitting) -> None:
    """Add the cases."""
    repository_cases(g)
    resume_cases(g)
    launch_cases(g)
    annotation_cases(g)
    file_cases(g)
    fork_cases(g)
    framework_cases(g)
    certificate_cases(g)


def local(*calls: Json, **more: Any) -> Json:
    """Run a process that logs to the spool of the folder ``d``."""
    return process(*calls, **{"env": LOCAL, "descriptors": {}, "dir": "d", **more})


def spool(*events: Json, **more: Any) -> Json:
    """Look into that spool."""
    return do("spool", dir="d", events=list(events), **more)


def bound(name: str, **body: Any) -> Json:
    """Return a run_start whose session id is kept under a name."""
    return {"t": "run_start", "m": {"seq": 1, "sid": {"$bind": name}}} | ({"p": body} if body else {})


def repository_cases(g: Emitting) -> None:
    """EVT-RUN_START-4."""

    def started_in(url: str, *wanted: Json, never: list[Json] | None = None) -> tuple[Json, Json]:
        config = f'[core]\n\trepositoryformatversion = 0\n[remote "origin"]\n\turl = {url}\n'
        put = {"HEAD": "ref: refs/heads/main\n", "config": config, "objects/info/packs": "", "refs/none": ""}
        files = [{"path": f"work/.git/{name}", "parts": [{"text": text}]} for name, text in put.items()]
        more = {"never": never} if never else {}
        return do("files", dir="d", put=files), process(
            begin(run_id="a"), dir="d", outputs={"3": [saw("run_start", 1), *wanted]}, **more
        )

    def source(pattern: Json) -> Json:
        return saw("run_start", 1, source={"git_repo": pattern})

    for name, url, secret, kind in (
        ("a-password", "https://marvin:s3cr3t@example.org/r.git", "s3cr3t|marvin", "invalid"),
        ("a-token", "https://t0ken17@example.org/r.git", "t0ken17", "invalid"),
        ("a-password-with-signs", "https://marvin:s3%40cr3t@example.org:8443/r.git", "cr3t|marvin", "boundary"),
        ("a-user", "ssh://marvin@example.org/r.git", "marvin", "boundary"),
        ("a-user-before-a-colon", "marvin@example.org:team/r.git", "marvin", "boundary"),
    ):
        add(
            g, f"repository-with-{name}", "EVT-RUN_START-4", "whoever reads the run is not told who may read the code",
            *started_in(url, never=[source({"$re": secret})]), needs="folders", kind=kind,
            kills="emitter-sends-git-credentials" if name != "a-user-before-a-colon" else "emitter-keeps-git-users",
        )  # fmt: skip
    for name, url in (("ssh", "ssh://git@example.org/r.git"), ("before-a-colon", "git@example.org:team/r.git")):
        add(
            g, f"repository-of-git-{name}", "EVT-RUN_START-4", "the user git says nothing, and may stay or go",
            *started_in(url), needs="folders", kills="emitter-no-run-start",
        )  # fmt: skip


def resume_cases(g: Emitting) -> None:
    """EVT-RUN_START-6."""
    again = {**LOCAL, "XTRACK_RESUME_RUN_ID": "a"}

    def named(name: str) -> Json:
        body = {"run_id": "a", "resume": {"sids": {"$has": f"@{name}@"}}}
        return {"t": "run_start", "m": {"sid": {"$not": f"@{name}@"}}, "p": body}

    add(
        g, "resumed-names-the-session", "EVT-RUN_START-6", "the one that it goes on with",
        local(begin(run_id="a"), metric(), ending="exit 3"), spool(bound("one")),
        local(begin(), metric(), env=again), spool(bound("one"), named("one"), streams=2), needs="folders",
        kills="emitter-resumes-in-silence",
    )  # fmt: skip
    add(
        g, "resumed-after-it-was-killed", "EVT-RUN_START-6", "whose end nobody has written",
        local(begin(run_id="a"), metric(), ending="kill"), spool(bound("one")),
        local(begin(), metric(), env=again), spool(bound("one"), named("one"), streams=2), needs="folders",
        kind="boundary", kills="emitter-resumes-in-silence",
    )  # fmt: skip
    add(
        g, "resumed-twice", "EVT-RUN_START-6", "a session that goes on with one that had done so",
        local(begin(run_id="a"), metric(), ending="exit 3"), spool(bound("one")),
        local(begin(), metric(), ending="exit 3", env=again),
        spool({"t": "run_start", "m": {"sid": {"$not": "@one@", "$bind": "two"}}}),
        local(begin(), metric(), env=again),
        spool(named("two"), streams=3), needs="folders", kind="boundary", kills="emitter-resumes-in-silence",
    )  # fmt: skip
    add(
        g, "another-run-names-none", "EVT-RUN_START-6", "it continues nothing",
        local(begin(run_id="a"), ending="exit 3"), local(begin(run_id="b")),
        spool(saw("run_start", run_id="a"), {"$rewind": True},
              saw("run_start", run_id="b", resume={"$optional": {"sids": {"$absent": True}}})),
        needs="folders", kind="invalid", kills="emitter-resumes-every-run",
    )  # fmt: skip


def launch_cases(g: Emitting) -> None:
    """EMT-7.4."""
    for ending, kind in (("exit 3", "valid"), ("kill", "boundary")):
        add(
            g, f"started-again-after-{ending.replace(' ', '-')}", "EMT-7.4", "the same worker of the same launch",
            local(begin(), metric("one"), env=SLURM, ending=ending),
            spool(saw("run_start", 1, run_id={"$bind": "launch"})), local(begin(), metric("two"), env=SLURM),
            spool(saw("metric", key="two", run_id="@launch@"), streams=2), needs="folders", kind=kind,
            kills="emitter-next-run-after-a-failure",
        )  # fmt: skip
    add(
        g, "the-next-training-of-a-job", "EMT-7.4", "it has completed the first run: this is the second",
        local(begin(), metric("one"), env=SLURM), spool(saw("run_start", 1, run_id={"$bind": "launch"})),
        local(begin(), metric("two"), env=SLURM), local(begin(), metric("three"), env=SLURM),
        spool(saw("metric", key="one", run_id="@launch@"), {"$rewind": True},
              saw("metric", key="two", run_id="@launch@-2"), {"$rewind": True},
              saw("metric", key="three", run_id="@launch@-3"), streams=3),
        needs="folders", kind="invalid", kills="emitter-one-run-a-launch",
    )  # fmt: skip
    add(
        g, "the-next-training-failed-once", "EMT-7.4", "it goes on with the second run, and not with the first",
        local(begin(), metric("one"), env=SLURM), spool(saw("run_start", 1, run_id={"$bind": "launch"})),
        local(begin(), metric("two"), env=SLURM, ending="exit 1"), local(begin(), metric("three"), env=SLURM),
        spool(saw("metric", key="three", run_id="@launch@-2"), streams=3), needs="folders", kind="boundary",
        kills="emitter-one-run-a-launch emitter-next-run-after-a-failure",
    )  # fmt: skip


def annotation_cases(g: Emitting) -> None:
    """EVT-TAGS-3."""
    run = local(begin(run_id="a"), call("tags", tags={"own": "x"}))

    def note(**tags: str) -> Json:
        return local(call("annotate", run_id="a", tags=tags))

    def found(key: str, name: str) -> Json:
        return {"t": "tags", "m": {"sid": {"$not": "@one@", "$bind": name}}, "p": {"run_id": "a", "tags": {key: "v"}}}

    add(
        g, "annotated-from-outside", "EVT-TAGS-3", "an ordinary event, in a stream of its own",
        run, spool(bound("one")), note(late="v"), spool({"$rewind": True}, found("late", "two"), streams=2),
        needs="folders", kills="emitter-annotates-in-a-stream-of-the-run",
    )  # fmt: skip
    add(
        g, "annotated-twice", "EVT-TAGS-3", "who comes later doesn't write into the stream of the first one either",
        run, spool(bound("one")), note(late="v"), spool(found("late", "two")), note(later="v"),
        spool({"t": "tags", "m": {"sid": {"$not": "@two@", "$bind": "three"}}, "p": {"tags": {"later": "v"}}},
              {"$rewind": True}, found("later", "three"), streams=3),
        needs="folders", kind="boundary", kills="emitter-annotates-in-a-stream-of-the-run",
    )  # fmt: skip
    add(
        g, "annotation-is-no-start", "EVT-TAGS-3", "it starts nothing, and ends nothing",
        run, spool(bound("one")), note(late="v"),
        spool(found("late", "two"), never=[{"t": kind, "m": {"sid": {"$not": "@one@"}}} for kind in ("run_end",)]),
        needs="folders", kind="invalid", kills="emitter-annotates-in-a-stream-of-the-run",
    )  # fmt: skip


def file_cases(g: Emitting) -> None:
    """RST-1.3."""
    env = {"XTRACK_TRANSPORT": "file", "XTRACK_FILE": "run.bin"}

    def further(worker: str) -> Json:
        calls = plain_calls(begin(run_id="a", worker_id=worker), metric(f"m{worker}"))
        return {"call": "process", "request": {"env": env, "descriptors": {}, "ending": "return", "calls": calls}}

    def whole(worker: str) -> list[Json]:
        return [{"t": "run_start", "m": {"seq": 1, "wid": worker}}, saw("metric", 3, key=f"m{worker}"), saw("run_end")]

    for name, workers in (("two", "1"), ("three", "12")):
        names = [f"run.bin.{worker}" for worker in workers]
        outputs = {"run.bin": whole("0")} | {f"run.bin.{worker}": whole(worker) for worker in workers}
        add(
            g, f"{name}-processes-and-a-file", "RST-1.3", "the first one has it; others have one of their own, and say so",
            process(begin(run_id="a", worker_id="0"), metric("m0"), *map(further, workers), metric("m9"), env=env,
                    descriptors={}, dir="d", read=["run.bin", *names], outputs=outputs, streams=1, told=names,
                    recording=True),
            needs="folders locks", kind="valid" if name == "two" else "boundary", kills="emitter-shares-a-file",
        )  # fmt: skip


def fork_cases(g: Emitting) -> None:
    """STR-3.3."""

    def fork(*calls: Json) -> Json:
        return {"do": "call", "call": "fork", "hooks": False, "calls": plain_calls(*calls)}

    add(
        g, "forked-by-a-library", "STR-3.3 STR-3 STR-3.1 STR-3.2", "one that runs no hooks: the process id tells",
        process(begin(run_id="a"), metric("before"), fork(metric("child")), metric("after"), streams=2, outputs={"3": [
            {"t": "run_start", "m": {"seq": 1, "sid": {"$bind": "parent"}}, "p": {"run_id": "a"}},
            {"$rewind": True}, {"t": "run_start", "m": {"seq": 1, "sid": {"$not": "@parent@"}}, "p": {"sub": True}},
            {"t": "metric", "m": {"sid": {"$not": "@parent@"}}, "p": {"key": "child"}},
            {"$rewind": True}, {"t": "metric", "m": {"seq": 4, "sid": "@parent@"}, "p": {"key": "after"}},
        ]}), needs="forks", kind="boundary", kills="emitter-forks-by-hooks-alone",
    )  # fmt: skip
    add(
        g, "forked-by-a-library-and-again", "STR-3.3 STR-3 STR-3.1 STR-3.2", "a child's child is a third process",
        process(begin(run_id="a"), fork(metric("child"), {"do": "call", "call": "fork", "hooks": False, "calls":
                plain_calls(metric("grandchild"))}, metric("later")), metric("after"), streams=3, outputs={"3": [
            saw("metric", key="grandchild"), {"$rewind": True}, saw("metric", key="child"), saw("metric", key="later"),
            {"$rewind": True}, saw("metric", 3, key="after"),
            {"$rewind": True}, saw("run_start", 1, sub=True), saw("run_start", 1, sub=True),
        ]}), needs="forks", kind="invalid", kills="emitter-forks-by-hooks-alone",
    )  # fmt: skip


def framework_cases(g: Emitting) -> None:
    """EMT-7.5."""
    for name, env, kind in (
        ("no-rank", STDIO, "invalid"),
        ("a-rank", {**STDIO, "RANK": "1", "WORLD_SIZE": "4"}, "valid"),
        ("a-rank-that-is-none", {**STDIO, "RANK": "7", "WORLD_SIZE": "4"}, "boundary"),
    ):
        step = process(begin(), metric(), env=env, read=["loaded"], outputs={"3": [saw("metric", 3)], "loaded": []})
        step["request"]["baits"] = True
        add(
            g, f"no-framework-for-{name}", "EMT-7.5", "a training without one must not load it for its rank", step,
            needs="frameworks", kind=kind, kills="emitter-imports-a-framework",
        )  # fmt: skip


def certificate_cases(g: Emitting) -> None:
    """CTL-16.4 to CTL-16.6."""
    env = {"XTRACK_TRANSPORT": "tcp", "XTRACK_HOST": "127.0.0.1", "XTRACK_PORT": "@port@"}

    def trusting(case_id: str, clauses: str, why: str, certificate: str, hears: bool, **more: Any) -> None:
        options = {name: f"@{more.pop(name)}@" for name in ("authority", "fingerprint") if name in more}
        steps = (begin(run_id="a", tls=True, **options), call("end", timeout=8 if hears else 1))
        run = process(*steps, env=env, descriptors={}, collector={"certificate": certificate, "hears": hears})
        more = ({} if hears else {"kind": "invalid"}) | more | {"needs": "certificates"}
        add(g, case_id, clauses, why, run, **more)

    checked = {"authority": "authority"}
    trusting(
        "certificate-of-the-authority", "CTL-16.4 CTL-16.7", "its signer is trusted, and it names the host", "signed",
        True, **checked, kills="emitter-trusts-nobody",
    )  # fmt: skip
    for name, certificate, why in (
        ("of-a-stranger", "stranger", "it has signed itself, and anybody can do that"),
        ("of-another-host", "elsewhere", "the authority vouches for it, at another place"),
    ):
        trusting(
            f"certificate-{name}", "CTL-16.4", why, certificate, False, **checked, kills="emitter-trusts-anybody",
        )  # fmt: skip
    trusting(
        "certificate-that-expired", "CTL-16.4", "the authority vouched for it until 2021", "expired", False, **checked,
        kind="boundary", kills="emitter-trusts-anybody",
    )  # fmt: skip
    trusting(
        "certificate-by-fingerprint", "CTL-16.4 CTL-16.5 CTL-16.6", "whoever signed it", "stranger", True,
        fingerprint="fingerprint", kills="emitter-checks-signers-of-pinned-certificates",
    )  # fmt: skip
    for form in ("in capitals", "with colons", "with spaces"):
        trusting(
            f"fingerprint-{form.replace(' ', '-')}", "CTL-16.5", "as other tools print it", "stranger", True,
            fingerprint=f"fingerprint {form}", kind="boundary", kills="emitter-one-form-of-fingerprints",
        )  # fmt: skip
    trusting(
        "fingerprint-but-for-a-digit", "CTL-16.4 CTL-16.5 CTL-16.6", "the certificate is another one", "stranger", False,
        fingerprint="fingerprint but for a digit", kills="emitter-trusts-any-fingerprint",
    )  # fmt: skip
    trusting(
        "fingerprint-cut-off", "CTL-16.5", "40 digits of it are none", "stranger", False,
        fingerprint="fingerprint cut off", kills="emitter-takes-short-fingerprints",
    )  # fmt: skip
    trusting(
        "fingerprint-of-an-odd-certificate", "CTL-16.6", "whatever it says of its signer, host and dates", "odd", True,
        fingerprint="fingerprint", kind="boundary", kills="emitter-checks-signers-of-pinned-certificates",
    )  # fmt: skip
    trusting(
        "fingerprint-and-an-authority", "CTL-16.6 CTL-16.4",
        "the authority vouches for this one, but one certificate is trusted, and it is no other", "signed", False,
        authority="authority", fingerprint="fingerprint but for a digit", kills="emitter-authority-before-fingerprint",
    )  # fmt: skip
