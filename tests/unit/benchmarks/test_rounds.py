"""Rounds, the file that a cut run goes on with, and the arithmetic of the table."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import rounds
from benchmarks.measured_file import MeasuredFile
from benchmarks.measurement import (
    PeerFailedError,
    RunFailedError,
    Spread,
    digits_after,
    output_of,
    script,
    seconds_of,
)
from benchmarks.rounds import Contestant, Found, Turn, run_rounds, timed
from benchmarks.rows import HEAD, Agreement, Goal, Row, stage_lines
from tests.error_messages import assert_message
from utils.errors import ConfigError


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(rounds, "PAUSE", 0.0)


class Scripted:
    """A contestant whose seconds are given; notes its turns."""

    def __init__(self, name, seconds, log, **keywords):
        self.contestant = Contestant(name, self.turn, **keywords)
        self.seconds, self.log = list(seconds), log

    def turn(self):
        self.log.append(self.contestant.name)
        value = self.seconds.pop(0)
        if isinstance(value, Exception):
            raise value
        return Turn(value, {"boxes": 7}, {f"{self.contestant.name}, part": value / 2})


def measured(path, setting=None, **keywords):
    return MeasuredFile(path, setting or {"stage": "x"}, **keywords)


def run(path, contestants, count, **keywords):
    with measured(path) as file:
        run_rounds([each.contestant for each in contestants], count, file, **keywords)
    return Found.read(path)


def test_everyone_takes_a_turn_in_every_round_and_another_one_begins(tmp_path):
    log = []
    found = run(tmp_path / "x.jsonl", [Scripted(name, [1, 2, 3], log) for name in "abc"], 3)
    assert log == [*"abc", *"bca", *"cab"]
    assert found.seconds["b"] == {0: 1, 1: 2, 2: 3} and found.seconds["b, part"][2] == 1.5
    assert found.values("a", "boxes") == {0: 7, 1: 7, 2: 7}
    log.clear()
    run(tmp_path / "y.jsonl", [Scripted(name, [1, 2], log) for name in "ab"], 2, rotate=False)
    assert log == [*"ab", *"ab"]


def test_a_slow_one_takes_part_in_its_rounds_only(tmp_path):
    log = []
    slow = Scripted("slow", [9], log, at_most=1)
    found = run(tmp_path / "x.jsonl", [slow, Scripted("a", [1, 1, 1], log)], 3)
    assert len(found.seconds["slow"]) == 1 and len(found.seconds["a"]) == 3


def test_a_peer_that_fails_is_skipped_with_its_reason_and_the_rest_goes_on(tmp_path, capsys):
    log = []
    peer = Scripted("peer", [2.0, PeerFailedError("no memory")], log)
    found = run(tmp_path / "x.jsonl", [peer, Scripted("ours", [1, 1, 1], log)], 3)
    assert found.skipped == {"peer": "no memory"} and log.count("peer") == 2
    assert found.ratios("ours", "peer").values == (0.5,)
    with pytest.raises(RunFailedError, match="broken"):
        run(tmp_path / "y.jsonl", [Scripted("ours", [RunFailedError("broken")], log)], 1)


def test_a_cut_run_goes_on_with_what_it_lacks(tmp_path):
    path, log = tmp_path / "x.jsonl", []
    run(path, [Scripted(name, [1, 2], log) for name in "ab"], 2)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])  # cut off within a line
    log.clear()
    found = run(path, [Scripted(name, [5, 5], log) for name in "ab"], 2)
    assert log == ["b", "a"] and found.seconds == {
        "a": {0: 1, 1: 5}, "a, part": {0: 0.5, 1: 2.5},
        "b": {0: 1, 1: 5}, "b, part": {0: 0.5, 1: 2.5},
    }  # fmt: skip
    assert path.read_text().splitlines(keepends=True)[:3] == lines[:3]


def test_another_setting_is_refused_or_begun_anew(tmp_path):
    path = tmp_path / "x.jsonl"
    with measured(path) as file:
        file.add({"load": 0.5})
    with pytest.raises(ConfigError) as refused:
        measured(path, {"stage": "y"})
    assert_message(str(refused.value), str(path), "stage")
    with measured(path, {"stage": "y"}, replace=True) as file:
        assert file.entries == []
    assert json.loads(path.read_text()) == {"stage": "y"}
    with pytest.raises(ConfigError, match="nothing is measured yet"):
        Found.read(tmp_path / "no.jsonl")


def found_of(series, facts=None, **keywords):
    seconds = {name: dict(enumerate(values)) for name, values in series.items()}
    said = {name: dict.fromkeys(range(3), each) for name, each in (facts or {}).items()}
    return Found({"peer": {}}, seconds, said, keywords.pop("skipped", {}), **keywords)


SLOWING = found_of({"ours": [1, 2, 4], "peer": [2, 4, 10], "floor": [0.5, 1, 1]})


def test_ratios_are_taken_within_rounds():
    # The machine slows down fourfold; the ratio of medians, 2 / 4, would hide the last round.
    assert SLOWING.ratios("ours", "peer").values == (0.5, 0.5, 0.4)
    assert SLOWING.beyond("ours", "floor", 1000).values == (500, 1000, 3000)
    assert SLOWING.spread("ours", 1000).median == 2000
    assert SLOWING.spread("none") is None and SLOWING.ratios("ours", "none") is None
    some = found_of({"ours": [1, 2], "peer": [4]})
    assert some.ratios("ours", "peer").values == (0.25,)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (None, None),
        (Goal("the default is the fastest"), None),
        (Goal("at most 0.5 of the peer", 0.5), True),
        (Goal("at most 0.49 of the peer", 0.49), False),
        (Goal("2000 ms", 2000, "time"), True),
        (Goal("1999 ms", 1999, "time"), False),
        (Goal("1 s beyond the floor", 1000, "beyond"), True),
        (Goal("0.9 s beyond the floor", 900, "beyond"), False),
    ],
)
def test_goals(goal, met):
    assert Row("x", "ours", "peer", "floor", "ms", 1e3, goal).is_met(SLOWING) is met


def test_a_row_has_a_cell_for_each_column():
    goal = Goal("at most 0.4 of the peer", 0.4)
    line = Row("loss", "ours", "peer", "floor", "ms", 1e3, goal).line(SLOWING)
    assert line == (
        "| loss | ms | 2000 (1000 to 4000) | 4000 (2000 to 10000) | 0.500 (0.400 to 0.500) | "
        "1000 (500 to 1000) | 2.00 (2.00 to 4.00) | at most 0.4 of the peer | no |"
    )
    assert line.count("|") == HEAD[0].count("|") == HEAD[1].count("|")
    alone = Row("loss", "ours", goal=goal).line(found_of({"ours": [0.001]}))
    assert alone.count("|") == HEAD[0].count("|") and "| ms/image | 1.00 (1.00 to 1.00) |" in alone
    skipped = Row("loss", "ours", "peer").line(found_of({"ours": [1]}))
    assert "| skipped |" in skipped and " no |" not in skipped


@pytest.mark.parametrize(
    ("theirs", "keywords", "agrees"),
    [
        (100.0, {}, True),
        (101.0, {}, False),
        (101.0, {"relative": 0.02}, True),
        (101.0, {"absolute": 1.0}, True),
        (102.0, {"absolute": 1.0}, False),
    ],
)
def test_agreement(theirs, keywords, agrees):
    found = found_of({}, {"ours": {"boxes": 100}, "peer": {"boxes": theirs}})
    agreement = Agreement("boxes", "ours", "peer", **keywords)
    assert (agreement.differing(found) is None) is agrees
    assert ("NOT equal" in agreement.line(found)) is not agrees
    assert f"ours 100, peer {theirs:g}" in agreement.line(found)


def test_one_round_that_differs_is_enough():
    found = found_of({}, {"ours": {"AP": 0.5}})
    found.facts["peer"] = {0: {"AP": 0.5}, 1: {"AP": 0.6}, 2: {"AP": 0.5}}
    assert Agreement("AP", "ours", "peer").differing(found) == (0.5, 0.6)
    assert Agreement("AP", "ours", "nobody").line(found) == ""


def test_what_was_skipped_is_said():
    found = found_of({"ours": [1]}, skipped={"peer, .pt": "no such file"})
    found.setting["peer"]["skipped"] = "no package"
    lines = stage_lines([Row("x", "ours", "peer, .pt")], [], found)
    assert lines[-2:] == ["- peer, .pt: skipped: no such file", "- peer: skipped: no package"]


def test_the_spread_has_three_digits_that_count():
    assert Spread((3.0, 1.0, 2.0)).as_text(1) == "2.0 (1.0 to 3.0)"
    assert Spread((0.01234,)).as_text() == "0.0123 (0.0123 to 0.0123)"
    assert [digits_after(value) for value in (1234, 12.3, 1.2, 0.5, 0.04, 0.0)] == [
        0,
        1,
        2,
        3,
        4,
        3,
    ]


def test_timed_counts_what_a_call_does():
    calls = []
    assert timed(lambda: calls.append(1), 3, 10) >= 0 and len(calls) == 4


def test_a_failed_run_is_not_measured(tmp_path):
    with pytest.raises(RunFailedError, match="ended with 2: "):
        seconds_of(script("detect.py", "--no-such-flag"))
    with pytest.raises(RunFailedError, match="No such file"):
        output_of([str(tmp_path / "python")])
    with pytest.raises(RunFailedError, match="ended with 1: no output"):
        output_of([sys.executable, "-c", "raise SystemExit(1)"])
