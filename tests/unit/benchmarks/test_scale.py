"""Growth of costs: powers of known curves, and a rehearsal that writes all plots."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks import scale, scale_costs
from benchmarks.growth import Growth
from benchmarks.measurement import Spread
from benchmarks.scale_costs import candidates, made_up_records, with_labels, write_files
from data.dataset_spec import load_dataset_spec
from data.file_states import UNSETTLED, settled_states
from data.records import read_records
from models.memory_probe import made_up_batch
from utils.postprocess import VAL_POSTPROCESS, postprocess


def growth(sizes, value_of):
    """Three rounds, of which the middle one is the value."""
    values = [Spread((0.9 * value_of(x), value_of(x), 1.2 * value_of(x))) for x in sizes]
    return Growth("a cost", "ms", tuple(sizes), tuple(values))


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_powers(power):
    found = growth((1, 10, 100), lambda x: 7 * x**power)
    assert found.power == pytest.approx(power) and found.last_power == pytest.approx(power)


def test_what_is_paid_once_counts_least_at_the_end():
    found = growth((1, 10, 100, 1000), lambda x: 100 + x)
    assert found.power < found.last_power < 1
    assert math.isnan(growth((3,), lambda x: x).power)


def test_made_up_sizes(tmp_path):
    assert len(with_labels(made_up_batch(2, 64), 5).boxes) == 10
    records = made_up_records(3, 4)
    assert [len(each.targets) for each in records] == [4, 4, 4]
    few, many = (postprocess(candidates(n), VAL_POSTPROCESS) for n in (10, 1000))
    assert 0 < len(few.boxes) <= 10 < len(many.boxes)
    spec = load_dataset_spec(write_files(tmp_path, 6))
    assert len(read_records(spec, "train", indexed=False)) == 6


def test_a_data_set_is_read_again_from_its_index(monkeypatch):
    """Which omits files that changed just now: what was written has to settle first."""

    def starts(yaml, cache):
        images = [str(path) for path in (yaml.parent / "images").iterdir()]
        assert (settled_states(images) != UNSETTLED).all()
        return 2.0, 1.0

    monkeypatch.setattr(scale_costs, "_starts", starts)
    first, again, _ = scale_costs.with_images(replace(scale_costs.SMALLEST, files=(3,)))
    assert (first.values[0].median, again.values[0].median) == (2, 1)


@pytest.mark.slow
def test_a_rehearsal(tmp_path):
    assert scale.main(["--rehearse", "--out", str(tmp_path), "--shared", str(tmp_path)]) == 0
    (report,) = tmp_path.glob("scale_cpu_*.md")
    assert len(list(tmp_path.glob("scale_*.png"))) == 4
    text = report.read_text()
    for path in tmp_path.glob("scale_*.png"):
        assert f"({path.name})" in text
    assert str(tmp_path) not in text
