"""The profile of 8-bit networks: times per operator, and what kind of work each is."""

from __future__ import annotations

import pytest

from experiments import int8_profile
from experiments.int8_profile import (
    kind_of,
    operator_times,
    profile_lines,
    profiling_session,
    variant_lines,
)
from models.runtimes import onnx_runner
from models.runtimes.onnx_runner import EXACT_SUMS
from tests.onnx_builders import save_detector


def event(operator, microseconds, cat="Node", suffix="_kernel_time"):
    return {"cat": cat, "name": f"{operator}_1{suffix}", "dur": microseconds,
            "args": {"op_name": operator}}  # fmt: skip


def test_times_are_means_of_the_runs_that_count():
    # Two convolutions and a sum; the first run, ten times as slow, does not count.
    runs = [[event("Conv", 1000 * k), event("Conv", 3000 * k), event("Add", 500 * k)]
            for k in (10, 1, 2)]  # fmt: skip
    others = [event("Conv", 9e9, cat="Session"), event("Conv", 9e9, suffix="_fence_before")]
    found = operator_times([*others, *(one for run in runs for one in run)], 2)
    assert list(found) == ["Conv", "Add"]  # the longest first
    assert (found["Conv"].nodes, found["Conv"].ms) == (2, pytest.approx(6.0))
    assert (found["Add"].nodes, found["Add"].ms) == (1, pytest.approx(0.75))


@pytest.mark.parametrize(
    ("operator", "kind"),
    [("QLinearConv", "integer"), ("QuantizeLinear", "conversion"), ("Sigmoid", "float"),
     ("DequantizeLinear", "conversion"), ("QLinearSigmoid", "integer"), ("Transpose", "move")],
)  # fmt: skip
def test_kinds(operator, kind):
    assert kind_of(operator) == kind


@pytest.mark.parametrize("may_lack", [True, False])
def test_a_profile_is_of_the_sums_that_detect_computes(may_lack, tmp_path, monkeypatch):
    for module in (int8_profile, onnx_runner):
        monkeypatch.setattr(module, "may_lack_vnni", lambda: may_lack)
    path = save_detector(tmp_path / "x.onnx", [[1.0] * 7])
    profiling = profiling_session(path, tmp_path / "profile")
    for session in (profiling, onnx_runner.open_session(str(path))):
        found = session.get_session_options()
        if may_lack:
            assert found.get_session_config_entry(EXACT_SUMS) == "1"
        else:
            with pytest.raises(Exception, match=EXACT_SUMS):
                found.get_session_config_entry(EXACT_SUMS)
    profiling.end_profiling()


def test_tables_have_both_files_and_the_sum_of_each_kind():
    before = operator_times([event("Conv", 4000)] * 2, 1)
    after = operator_times([event("QLinearConv", 1000), event("QLinearMul", 500)] * 2, 1)
    lines = profile_lines(before, after)
    assert "| integer | 0.00 | 1.50 |" in lines and "| float | 4.00 | 0.00 |" in lines
    assert (
        "| Conv | float | 1, 4.00 |  |" in lines
        and "| QLinearMul | integer |  | 1, 0.50 |" in lines
    )
    variants = variant_lines({"float32": [0.02, 0.04], "8 bits": [0.01, 0.04]})
    assert "| 8 bits | 25.0 | 1.50 (1.00 to 2.00) |" in variants
