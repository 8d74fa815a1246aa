"""Options that take a number: what isn't one that can be waited, or reckoned with, is wrong usage."""

import click
import pytest

from xtrack_protocol.cli._app import app
from xtrack_protocol.cli._seconds import Seconds

NUMBERS = [
    ("command", "--timeout"),
    ("keys rotate", "--grace"),
    ("plot", "--smooth"),
    ("run", "--timeout"),
    ("sync", "--timeout"),
    ("tail", "--timeout"),
    ("watch", "--interval"),
]


def test_which_options_take_numbers():
    context = click.Context(app)
    commands = {name: app.get_command(context, name) for name in app.list_commands(context)}
    for name, group in list(commands.items()):
        commands |= {f"{name} {verb}": command for verb, command in getattr(group, "commands", {}).items()}
    assert (
        sorted(
            (name, option.opts[-1])
            for name, command in commands.items()
            for option in command.params
            if isinstance(option.type, click.types.FloatParamType)
        )
        == NUMBERS
    )


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e300", "often"])
@pytest.mark.parametrize(("verb", "option"), NUMBERS)
def test_what_is_no_such_number_is_wrong_usage(xtrack, verb, option, value):
    done = xtrack(*verb.split(), f"{option}={value}")
    assert done.code == (125 if verb == "run" else 2)
    assert done.err.startswith(f"xtrack {verb}: Invalid value for '{option}': ")
    assert value in done.err or repr(float(value)) in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["watch", "--interval", "0"], "0.0 is not in the range 0.2<=x<=1000000000.0."),
        (["run", "--timeout", "0"], "0.0 is not in the range 0.0<x<=1000000000.0."),
        (["sync", "--timeout", "0"], "0.0 is not in the range 0.1<=x<=1000000000.0."),
        (["tail", "r", "--timeout", "nan"], "'nan' is no number of seconds."),
    ],
)
def test_it_says_which_numbers_it_takes(xtrack, argv, says):
    assert says in xtrack(*argv).err


def test_the_ends_of_the_range_are_in_it():
    assert [Seconds().convert(text, None, None) for text in ("0", "1e9")] == [0, 1e9]
    assert Seconds(above=True).convert("5e-324", None, None) > 0
