"""Sentences are made of figures, for the rows that have runs."""

from __future__ import annotations

import pytest

from experiments.block_claims import (
    CLAIMS,
    ap_sentences,
    cost_sentences,
    kernel_parts,
    kernel_sentences,
    teacher_sentences,
)
from experiments.block_runs import ROWS
from tests.unit.experiments.run_builders import result

PLAIN, REPVGG, OREPA = "plain", "RepVGG, start=plain", "OREPA, start=plain"


def test_claims_name_rows():
    names = {row.name for row in ROWS}
    assert {claim.better for claim in CLAIMS} | {claim.than for claim in CLAIMS} <= names


def test_no_runs():
    assert ap_sentences({}) == cost_sentences({}) == kernel_sentences({}) == []


def test_a_gain_is_confirmed():
    runs = {PLAIN: [result(0.20), result(0.21)], REPVGG: [result(0.30), result(0.31)]}
    (line,) = ap_sentences(runs)
    assert line.startswith("- C1, RepVGG blocks gain a point: **confirmed**.")
    assert "+0.1000" in line and "claimed +0.0100" in line


def test_a_loss_is_one_of_the_named_row():
    """C2 claims that plain is better: a better RepVGG with LeakyReLU contradicts it."""
    runs = {PLAIN: [result(0.20), result(0.21)],
            "RepVGG, LeakyReLU": [result(0.30), result(0.31)]}  # fmt: skip
    (line,) = ap_sentences(runs)
    assert "C2" in line and "**contradicted**" in line and "-0.1000" in line


@pytest.mark.parametrize(
    ("seconds", "memory", "text"),
    [
        (30.0, 300.0, "**confirmed**. 2.50 times as fast; 75 % less extra memory (50, 200 MB"),
        (15.0, 300.0, "**not seen**. 1.25 times"),  # too slow a gain
        (30.0, 200.0, "**not seen**. 2.50 times as fast; 50 % less"),  # too little memory
    ],
)
def test_costs(seconds, memory, text):
    runs = {PLAIN: [result(0.2, seconds=10.0, memory=100.0)],
            OREPA: [result(0.2, seconds=12.0, memory=150.0)],
            "DBB": [result(0.2, seconds=seconds, memory=memory)]}  # fmt: skip
    (line,) = cost_sentences(runs)
    assert text in line and "DBB" in line


def test_costs_that_are_not_known_are_not_compared():
    runs = {PLAIN: [result(0.2)], OREPA: [result(0.2, seconds=None)],
            "DBB": [result(0.2, memory=None)]}  # fmt: skip
    assert cost_sentences(runs) == []


def test_no_extra_memory_is_no_division():
    """As on a GPU whose peak is elsewhere."""
    runs = {name: [result(0.2, memory=100.0)] for name in (PLAIN, OREPA, "DBB")}
    assert cost_sentences(runs) == []


def test_positions_of_a_kernel():
    grid = [[1, 2, 3], [4, 20, 6], [7, 8, 9]]
    assert kernel_parts(result(0.2, skeleton=grid)) == (5, 5, 20)


def test_kernels_of_every_run_count():
    flat = result(0.2, skeleton=[[1.0] * 3] * 3)
    (line,) = kernel_sentences({"ACB": [result(0.2), flat]})
    assert "**not seen** in 1 of 2 runs" in line and "Corners 0.700, cross 0.800" in line
    (line,) = kernel_sentences({"plain": [result(0.2)]})
    assert "**confirmed** in 1 of 1" in line


def test_what_a_teacher_adds():
    (line,) = teacher_sentences({PLAIN: [result(0.2)], "plain, with teacher": [result(0.3)]})
    assert line.startswith("- plain with a teacher: +0.1000")
