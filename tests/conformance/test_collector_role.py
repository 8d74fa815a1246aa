"""The role collector: its steps, their orders, what is held against answers, and mutants of the source."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from typing import Any

import pytest
from conformance_suite import FOLDER, ask, mutants

from xtrack_conformance.cases import load_cases
from xtrack_conformance.plan import plan
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.scripts import collector
from xtrack_conformance.scripts.states import difference_of_list, difference_of_run, difference_of_set, member
from xtrack_conformance.values import tag

RUN = mutants()
CASES = [case for case in load_cases() if case.role == "collector"]
RECORDING = frozenset({"recording"})


def test_the_steps_follow_their_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((FOLDER / "xtrack_conformance/schemas/collector.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for case in CASES:
        assert [error.message for error in validator.iter_errors(list(case.script))][:3] == [], case.id
        assert {step["do"] for step in case.script} <= set(collector.STEPS), case.id
        assert case.script[-1]["do"] in collector.ASKS, f"{case.id} ends without a question"


def test_there_are_cases_of_each_kind() -> None:
    assert len(CASES) > 200
    kinds = Counter(case.kind for case in CASES)
    assert min(kinds["valid"], kinds["invalid"], kinds["boundary"]) >= 15, kinds


def test_the_reference_conforms() -> None:
    results = ask(RUN.load_testee(), CASES)
    assert [(result.case.id, result.reason) for result in results if result.verdict != "pass"] == []


# ------------------------------------------------------------------------------------------ what is told


def told(case_id: str, variant: str) -> list[dict[str, Any]]:
    """Return the requests of a case in a variant, with the payloads of its frames."""
    case = next(case for case in CASES if case.id == case_id)
    begin = next(run.converse for run in plan(case, RECORDING) if run.variant == variant)
    assert begin is not None
    conversation, requests = begin(), []
    try:
        request = next(conversation)
        while True:
            requests.append(request)
            request = conversation.send({"unknown": True})
    except StopIteration:
        pass
    return [{**request, "payloads": list(payloads(request.get("frames", "")))} for request in requests]


def payloads(frames: str) -> Any:
    data = base64.b64decode(frames)
    while data:
        size = int.from_bytes(data[:4], "big")
        yield json.loads(data[4 : 4 + size])
        data = data[4 + size :]


def seqs(requests: list[dict[str, Any]]) -> list[int]:
    return [payload["m"]["seq"] for request in requests for payload in request["payloads"]]


def test_variants_of_a_case() -> None:
    case = next(case for case in CASES if case.id == "fld-nothing-lost")
    assert [run.variant for run in plan(case, RECORDING)] == [
        "as told", "one by one", "backwards", "shuffled 1", "shuffled 2", "shuffled 3", "shuffled 4",
        "twice", "twice, shuffled", "recorded",
    ]  # fmt: skip
    assert "recorded" not in [run.variant for run in plan(case, frozenset())]
    unordered = next(case for case in CASES if case.id == "str-conflict")
    assert [run.variant for run in plan(unordered, frozenset())] == ["as told", "one by one"]


def test_each_variant_tells_everything() -> None:
    assert seqs(told("fld-nothing-lost", "as told")) == [1, 2, 3, 4, 5, 6]
    assert seqs(told("fld-nothing-lost", "backwards")) == [6, 5, 4, 3, 2, 1]
    assert seqs(told("fld-nothing-lost", "twice")) == [1, 2, 3, 4, 5, 6] * 2
    shuffled = seqs(told("fld-nothing-lost", "shuffled 1"))
    assert sorted(shuffled) == [1, 2, 3, 4, 5, 6] != shuffled
    assert Counter(seqs(told("fld-nothing-lost", "twice, shuffled"))) == dict.fromkeys(range(1, 7), 2)
    assert [len(request["payloads"]) for request in told("fld-nothing-lost", "one by one")][:6] == [1] * 6
    assert {request.get("kind") for request in told("fld-nothing-lost", "recorded")} == {"recording", None}
    assert told("fld-nothing-lost", "as told")[-1]["op"] == "collect.close"


def test_events_without_a_session_id_keep_their_order_in_a_source() -> None:
    for variant in ("backwards", "shuffled 1", "shuffled 2", "twice, shuffled"):
        requests = told("str-derived-known-again", variant)
        first = [
            payload["m"]["seq"]
            for request in requests
            if request.get("source") == "x"
            for payload in request["payloads"]
        ]
        assert first == [1, 2, 1, 2, 1, 2, 3], variant


def test_losses_are_told_in_any_order_too() -> None:
    orders = {
        tuple(request["op"] for request in told("fld-lost-died-outweighs", f"shuffled {number}"))
        for number in (1, 2, 3, 4)
    }
    assert len(orders) > 1


def test_what_stands_between_two_questions_stays_there() -> None:
    ops = [request["op"].removeprefix("collect.") for request in told("fld-deleted-alone", "one by one")]
    assert ops[:3] == ["feed", "feed", "delete"]


# ------------------------------------------------------------------------------------------ what is compared


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1, 1.0), (0.0, 0), (-0.0, 0.0), ({"$float": "NaN"}, float("nan")), (None, []), (False, None), ([], {}),
        ({"at_least": 2}, 3), ({"one_of": [1, 2]}, 2), ({"x": 1}, {"x": 1, "y": 2}), ({"x": None}, {}),
        ([[1, 2]], [[1.0, 2.0]]), (2**53 + 1, 2**53 + 1), ("", ""),
    ],
)  # fmt: skip
def test_members_that_are_the_same(expected: Any, got: Any) -> None:
    assert member(expected, got, "x") is None


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1, True), (True, 1), (0, None), (0, False), ("", None), (None, 0), (2**53 + 1, float(2**53)), ("1", 1),
        ({"$float": "NaN"}, None), ({"$float": "NaN"}, float("inf")), ({"$float": "NaN"}, "NaN"), ({"at_least": 2}, 1),
        ({"one_of": [1, 2]}, 3), ({"x": 1}, {}), ({"x": None}, {"x": 1}), ([[1, 2]], [[1, 3]]), ([1], [1, 2]), (1, "1"),
    ],
)  # fmt: skip
def test_members_that_differ(expected: Any, got: Any) -> None:
    assert (member(expected, got, "here") or "").startswith(("here: expected", "here.x: expected"))


def test_maps_are_compared_as_a_whole_and_exactly() -> None:
    state = {"params": {"a": None, "b": [], "c": 1.0}}
    assert difference_of_run({"params": {"a": None, "b": [], "c": 1}}, state) is None
    assert "params.c" in (difference_of_run({"params": {"a": None, "b": []}}, state) or "")
    assert "params.d" in (difference_of_run({"params": {"a": None, "b": [], "c": 1, "d": None}}, state) or "")
    assert "params.b" in (difference_of_run({"params": {"a": None, "b": {}, "c": 1}}, state) or "")
    assert difference_of_run({"params": {}}, {}) is None
    assert difference_of_run({"tags": {"x": "1"}}, {"tags": {"x": "1", "xtrack.name": "n"}}) is None


def test_series_that_are_hidden_may_be_told_or_not() -> None:
    assert difference_of_run({"series": {}}, {"series": {"k": {"count": 0}}}) is None
    assert difference_of_run({"series": {"k": {"count": 0}}}, {"series": {}}) is None
    assert difference_of_run({"series": {}}, {"series": {"k": {"count": 1}}}) is not None
    assert difference_of_run({"series": {"k": {"count": 1}}}, {"series": {}}) is not None


def test_streams_are_all_there_in_any_order() -> None:
    wanted = [{"wid": "", "sid": "a", "gaps": []}, {"wid": "w", "sid": "b"}]
    told_so = [{"wid": "w", "sid": "b", "has": [[1, 2]]}, {"sid": "a"}]
    assert difference_of_run({"streams": wanted}, {"streams": told_so}) is None
    assert difference_of_run({"streams": wanted[:1]}, {"streams": told_so}) is not None
    assert difference_of_run({"streams": wanted}, {"streams": told_so[:1]}) is not None
    assert "gaps" in (
        difference_of_run({"streams": wanted}, {"streams": [told_so[0], {"sid": "a", "gaps": [[1, 1]]}]}) or ""
    )


def test_lists() -> None:
    assert (
        difference_of_run(
            {"logs": [{"p": {"msg": "b"}}, {"p": {"msg": "a"}}]}, {"logs": [{"p": {"msg": "a"}}, {"p": {"msg": "b"}}]}
        )
        is None
    )
    assert difference_of_run({"logs": {"includes": [{"seq": 1}]}}, {"logs": [{"seq": 1}, {"seq": 2}]}) is None
    assert difference_of_run({"logs": [{"seq": 1}]}, {"logs": [{"seq": 1}, {"seq": 1}]}) is not None
    assert difference_of_run({"logs": {"includes": [{"seq": 3}]}}, {"logs": [{"seq": 1}]}) is not None
    assert difference_of_list([{"value": 1}, {"value": 2}], [{"value": 2}, {"value": 1}], "point") is not None
    assert difference_of_set([{"value": 1}, {"value": 2}], [{"value": 2}, {"value": 1}], "hidden") is None


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"run": 5}, {"run": {"t": "int", "v": "5"}}, {"run": {"t": "obj", "v": [["status"]]}}, {"unknown": 1},
        {"run": tag({"streams": 5})}, {"run": tag({"streams": [5]})}, {"run": tag({"streams": [{"sid": 5}]})},
        {"run": tag({"streams": [{"sid": "s"}, {"sid": "s", "wid": ""}]})},
    ],
)  # fmt: skip
def test_what_is_no_answer_is_the_testees_fault(answer: dict[str, Any]) -> None:
    case = next(case for case in CASES if case.id == "str-identity-worker")
    begin = plan(case, frozenset())[0].converse
    assert begin is not None
    conversation = begin()
    request = next(conversation)
    while request["op"] != "collect.run":
        request = conversation.send({})
    with pytest.raises(BadAnswer):
        conversation.send(answer)


def test_a_failure_names_the_step_and_ends_the_session() -> None:
    case = next(case for case in CASES if case.id == "str-gap-narrowed")
    begin = plan(case, frozenset())[0].converse
    assert begin is not None
    conversation = begin()
    request = next(conversation)
    judgement, ended = None, False
    while judgement is None:
        ended = request["op"] == "collect.close"
        try:
            request = conversation.send({"unknown": True} if request["op"] == "collect.run" else {})
        except StopIteration as end:
            judgement = end.value
    assert ended
    assert judgement.verdict == "fail"
    assert judgement.message == "step 2 (run of 'a'): an unknown run, expected a run that is known"


@pytest.mark.parametrize(
    "answer",
    [
        {"unknown": True},
        {"run": tag({}), "points": tag([]), "steps": tag([])},
        {"run": tag({"status": "running"}), "points": tag([{"value": 1}]), "steps": tag([{"step": 1}])},
    ],
)  # fmt: skip
def test_no_one_answer_does_for_all(answer: dict[str, Any]) -> None:
    """A testee that always says the same fails most cases, and each case is failed by one of these."""
    failed = {case.id for case in CASES if _verdict(case, answer) == "fail"}
    assert len(failed) > len(CASES) * 0.8


def test_every_case_can_fail() -> None:
    never = {"unknown": True}
    always = {"run": tag({"status": "odd"}), "points": tag([{"value": 77}]), "steps": tag([{"step": 77}])}
    assert [case.id for case in CASES if "pass" in {_verdict(case, never)} & {_verdict(case, always)}] == []


def _verdict(case: Any, answer: dict[str, Any]) -> str:
    begin = plan(case, frozenset())[0].converse
    assert begin is not None
    conversation = begin()
    try:
        next(conversation)
        while True:
            conversation.send(answer)
    except StopIteration as end:
        return str(end.value.verdict)


# ------------------------------------------------------------------------------------------ mutants


def test_mutants_leave_nothing_behind() -> None:
    import as_collector  # beside the testee, which conformance_suite has made importable

    def loaded() -> dict[str, Any]:
        names = [name for name in sys.modules if name.startswith(("xtrack_protocol", "as_"))]
        return {name: (sys.modules[name], dict(vars(sys.modules[name]))) for name in names}

    before = loaded()
    for name in ("rewind-hides-nothing", "derived-without-worker", "gap-refuses-the-rest", "aggregate-of-points"):
        RUN.MUTANTS[name](RUN.load_testee())
    after = loaded()
    assert after.keys() == before.keys()
    for name, (module, names) in before.items():
        assert after[name][0] is module, name
        assert [key for key in names if after[name][1][key] is not names[key]] == [], name
    assert as_collector.Part is sys.modules["as_collector"].Part


def test_an_edit_that_finds_no_place_is_told() -> None:
    sys.path.insert(0, str(FOLDER / "mutants"))
    try:
        from edited import edited
    finally:
        sys.path.remove(str(FOLDER / "mutants"))
    mutation = edited("collect", "as_collector", {}, [("as_collector.py", "no such text", "")])
    with pytest.raises(AssertionError, match="mend the mutant"):
        mutation(RUN.load_testee())
