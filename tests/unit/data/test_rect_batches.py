from __future__ import annotations

import pytest

from data.eval_dataset import rect_input_hws, sort_by_aspect


def test_widest_first_equals_in_order():
    assert sort_by_aspect([(10, 10), (5, 10), (20, 10), (10, 20)]).tolist() == [1, 3, 0, 2]
    assert sort_by_aspect([]).tolist() == []


@pytest.mark.parametrize(
    ("hws", "batch_size", "pad", "expected"),
    [
        # YOLOv5's validation: 640 becomes 672 with half a stride of padding
        ([(640, 640)], 1, 0.5, [(672, 672)]),
        ([(640, 640)], 1, 0.0, [(640, 640)]),
        # all wide: the tallest of them decides
        ([(240, 640), (480, 640)], 2, 0.5, [(512, 672), (512, 672)]),
        # all tall: the widest of them decides
        ([(640, 480), (640, 240)], 2, 0.5, [(672, 512), (672, 512)]),
        # both kinds: a square
        ([(480, 640), (640, 480)], 2, 0.5, [(672, 672), (672, 672)]),
        # one shape per batch, the last one smaller
        (
            [(320, 640), (320, 640), (640, 640)],
            2,
            0.0,
            [(320, 640), (320, 640), (640, 640)],
        ),
        ([], 4, 0.5, []),
    ],
)
def test_shapes(hws, batch_size, pad, expected):
    assert rect_input_hws(hws, 640, batch_size, stride=32, pad=pad) == tuple(expected)
