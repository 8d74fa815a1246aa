"""Every pair of state and input is a listed transition or a documented refusal, in the tables and in the machines.

The diagrams of docs/explanation/session.md are made from the tables; write them again with

    python tests/session/test_tables.py
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.session import _tables as tables
from xtrack_protocol.session._tables import (
    CLIENT,
    CLIENT_STREAM,
    LOCAL,
    PEER,
    SERVER,
    SERVER_STREAM,
    TIME,
    ConnectionState,
    Input,
    StreamInput,
    StreamState,
)

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "session.md"
CONNECTIONS = {"client": CLIENT, "server": SERVER}
STREAMS = {"client_stream": CLIENT_STREAM, "server_stream": SERVER_STREAM}
ALL: dict[str, Mapping[Any, Mapping[Any, Any]]] = {**CONNECTIONS, **STREAMS}
INITIAL: dict[str, Enum] = dict.fromkeys(CONNECTIONS, ConnectionState.IDLE) | dict.fromkeys(
    STREAMS, StreamState.UNOPENED
)
NOT_OF_THIS_ROLE = {
    "client": {ConnectionState.HELLO_WAIT},
    "server": {ConnectionState.HELLO_SENT},
    "client_stream": set(),
    "server_stream": set(),
}


def reachable(table: Mapping[Any, Mapping[Any, Any]], start: Enum) -> set[Enum]:
    seen: set[Enum] = set()
    todo = [start]
    while todo:
        state = todo.pop()
        if state not in seen:
            seen.add(state)
            todo += table[state].values()
    return seen


@pytest.mark.parametrize("name", ALL)
def test_every_state_of_the_role_has_a_row_and_is_reached(name: str) -> None:
    table = ALL[name]
    states = set(type(INITIAL[name])) - NOT_OF_THIS_ROLE[name]
    assert set(table) == states
    assert reachable(table, INITIAL[name]) == states


@pytest.mark.parametrize("name", ALL)
def test_every_connection_and_stream_can_end(name: str) -> None:
    ends = {state for state, row in ALL[name].items() if set(row.values()) <= {state}}
    for state in ALL[name]:
        assert reachable(ALL[name], state) & ends, state
    expected = {StreamState.ENDED} if name in STREAMS else {ConnectionState.CLOSED, ConnectionState.POISONED}
    assert ends == expected


def test_inputs_have_one_origin() -> None:
    assert set(Input) == LOCAL | PEER | TIME
    assert not LOCAL & PEER
    assert not LOCAL & TIME
    assert not PEER & TIME


@pytest.mark.parametrize(("name", "what"), list(itertools.product(CONNECTIONS, [Input.FATAL_FRAME, Input.FAULT])))
def test_a_fault_poisons_whatever_is_under_way(name: str, what: Input) -> None:
    for state, row in CONNECTIONS[name].items():
        if state in {ConnectionState.IDLE, ConnectionState.CLOSED, ConnectionState.POISONED}:
            assert what not in row
        else:
            assert row[what] is ConnectionState.POISONED


@pytest.mark.parametrize("name", CONNECTIONS)
def test_closing_is_always_allowed_and_nothing_leaves_the_end(name: str) -> None:
    for state, row in CONNECTIONS[name].items():
        assert Input.CLOSE in row
        if state in {ConnectionState.CLOSED, ConnectionState.POISONED}:
            assert row == {Input.CLOSE: state, Input.GONE: state}


@pytest.mark.parametrize("name", CONNECTIONS)
def test_time_alone_never_opens_anything(name: str) -> None:
    allowed = {ConnectionState.CLOSED, ConnectionState.PLAIN}
    for state, row in CONNECTIONS[name].items():
        for what in TIME & row.keys():
            assert row[what] is state or row[what] in allowed


def test_events_and_acks_need_an_open_stream() -> None:
    for table in STREAMS.values():
        for state, row in table.items():
            for what in (StreamInput.EVENT, StreamInput.SKIP, StreamInput.ACK):
                assert (what in row) == (state is StreamState.OPEN)
        assert set(table[StreamState.FENCED].values()) == {StreamState.ENDED}


def test_the_diagram_names_every_transition() -> None:
    for name, table in ALL.items():
        text = tables.mermaid(table, INITIAL[name])
        for state, row in table.items():
            for what, following in row.items():
                if following is state:
                    line = next(line for line in text.splitlines() if line.startswith(f"    {state.value}: "))
                else:
                    line = next(
                        line
                        for line in text.splitlines()
                        if line.startswith(f"    {state.value} --> {following.value}: ")
                    )
                assert re.search(rf"[ (]{re.escape(what.value)}[,)]|[ (]{re.escape(what.value)}$", line), (line, what)


def regenerate(text: str) -> str:
    for name, table in ALL.items():
        diagram = tables.mermaid(table, INITIAL[name])
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert pattern.search(text), name
        text = pattern.sub(lambda match, diagram=diagram: f"{match[1]}\n```mermaid\n{diagram}```\n\n{match[2]}", text)
    return text


def test_the_page_has_the_diagrams_of_the_tables() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert regenerate(text) == text, "write it again: this module's docstring says how"


if __name__ == "__main__":
    PAGE.write_text(regenerate(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
