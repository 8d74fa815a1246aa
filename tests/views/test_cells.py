"""Text in cells: wide letters count two, what is cut ends in an ellipsis, and widths are kept."""

from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.decode.text import escape
from xtrack_protocol.views.cells import (
    Span,
    cell_width,
    coloured,
    cut,
    distinct,
    fill,
    fit_row,
    plain,
    side_by_side,
)

TEXTS = st.text(max_size=60).map(escape)


def test_widths():
    assert cell_width("loss") == 4
    assert cell_width("名前") == 4
    assert cell_width("é") == cell_width("e\u0301") == 1
    assert cell_width("🚀") == 2


def test_what_is_cut():
    assert cut("loss", 4) == "loss"
    assert cut("validation", 6) == "valid…"
    assert cut("validation/loss", 9, middle=True) == "vali…loss"
    assert cut("名前名前", 6) == "名前…"
    assert cut("名前名前", 5) == "名前…"
    assert cut("loss", 0) == ""
    assert fill("loss", 6) == "loss  "
    assert fill("名前", 6, "right") == "  名前"


@given(TEXTS, st.integers(0, 40), st.booleans())
def test_cut_and_filled_texts_fit(text, width, middle):
    assert cell_width(cut(text, width, middle=middle)) <= width
    assert cell_width(fill(text, width, middle=middle)) == width


def test_names_go_without_what_they_begin_with_alike():
    names = [f"sweep-resnet50-imagenet-lr-{lr}" for lr in ("0.001", "0.01")]
    assert distinct(names, 40) == names
    assert distinct(names, 12) == ["…0.001", "…0.01"]
    assert distinct(["alone-and-much-too-long"], 9) == ["alon…long"]
    assert distinct(["a\x1b[31m", "b"], 9) == ["a\\x1b[31m", "b"]


@given(st.lists(TEXTS, max_size=5), st.integers(1, 30))
def test_distinct_names_fit(names, width):
    found = distinct(names, width)
    assert len(found) == len(names)
    assert all(cell_width(name) <= width for name in found)


def test_rows():
    row = fit_row([Span("loss ", "bold"), Span("名前名前", "red")], 8)
    assert row == (Span("loss ", "bold"), Span("名…", "red"))
    assert plain(row) == "loss 名…"
    assert coloured(row) == "\x1b[1mloss \x1b[0m\x1b[31m名…\x1b[0m"
    assert plain([Span("a  ")]) == "a"


def test_cells_side_by_side():
    spans = [Span(name) for name in ("one", "three", "four", "five", "six")]
    assert [plain(row) for row in side_by_side(spans, 16, 9)] == ["one    three", "four   five", "six"]
    assert [plain(row) for row in side_by_side(spans, 16, 1)] == ["and 5 more"]
    assert side_by_side([], 16, 2) == []
