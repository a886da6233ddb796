"""The arithmetic of the page on COCO's cost, with numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from experiments.coco_cost_report import Machines, Measured, cost, published_rate, write_report

MEASURED = Measured(
    made_per_second=100.0,
    made_per_second_cached=500.0,
    learnt_per_second={"yolov5n": 8.0},
    validated_per_second={"yolov5n": 40.0},
    parameters={"yolov5n": 1_000_000},
    evaluation_seconds_per_image=0.001,
    ranks_per_second=(4.0, 7.0),
    device="cpu",
    batch_size=8,
    amp="off",
)


def found(machines: Machines, rate: float):
    return cost(machines, rate, 3 * rate, 1_000_000, MEASURED, 16)


def test_one_gpu_exchanges_nothing():
    one = found(Machines("1 GPU", 1, None), 400.0)
    # 118,287 / 400 s to learn, 5,000 / 1,200 s to validate, 5 s to evaluate
    assert one.hours == pytest.approx(300 * (295.7175 + 4.1667 + 5) / 3600, rel=1e-4)
    assert (one.exchange_share, one.limit) == (0, "the GPU")
    assert one.cores_per_gpu == pytest.approx(4)


def test_gradients_over_a_link():
    # 2 * 7/8 * 4 MB over 1 GB/s: 7 ms beside a step of 40 ms
    eight = found(Machines("8", 8, 1.0), 400.0)
    assert eight.exchange_share == pytest.approx(7 / 47)
    assert eight.limit == "the GPU"  # 37 s of training; evaluation: 5 s
    assert found(Machines("8", 8, 0.01), 400.0).limit == "the link"


def test_images_that_are_not_made_fast_enough():
    fast = found(Machines("1", 1, None), 2000.0)
    assert fast.limit == "making images with 8 cores"
    assert fast.hours == pytest.approx(300 * (118_287 / 800 + 5000 / 6000 + 5) / 3600)


def test_the_page(tmp_path):
    write_report(tmp_path, MEASURED)
    (page,) = tmp_path.glob("*.md")
    text = page.read_text()
    assert f"| yolov5n | 1 GPU | {published_rate('yolov5n'):.0f} |" in text
    assert "not a measurement of this project" in text
    assert "learn 1.75 times as many images as one" in text
