"""One object plays both parts here: the process that fills buffers and the one that reads them."""

from __future__ import annotations

import gc

import torch

from data.shared_buffers import SharedBuffers

SHAPE = (2, 3, 4, 5)
SIZE = 2 * 3 * 4 * 5


def fill(buffers, value):
    filled, pixels = buffers.take(SHAPE)
    pixels.fill_(value)
    return filled


def test_what_was_filled_in_is_received():
    buffers = SharedBuffers(2, SIZE)

    filled = fill(buffers, 7)
    pixels = buffers.receive(filled)

    assert pixels.shape == SHAPE and pixels.dtype == torch.uint8
    assert (pixels == 7).all()
    assert filled.number == 1


def test_what_is_held_is_not_filled_again():
    buffers = SharedBuffers(2, SIZE)
    first = buffers.receive(fill(buffers, 1))
    part = first[1, :, 2]  # a view holds it as well
    del first

    for value in range(2, 6):
        assert (buffers.receive(fill(buffers, value)) == value).all()
        gc.collect()

    assert (part == 1).all()
    second = buffers.receive(fill(buffers, 9))
    assert buffers.take(SHAPE) is None  # both are held
    del part
    assert (buffers.receive(fill(buffers, 3)) == 3).all()
    assert (second == 9).all()


def test_what_is_on_its_way_is_not_filled_again():
    buffers = SharedBuffers(2, SIZE)
    ways = [fill(buffers, 1), fill(buffers, 2)]

    assert buffers.take(SHAPE) is None
    assert [int(buffers.receive(filled)[0, 0, 0, 0]) for filled in ways] == [1, 2]


def test_what_never_arrives_is_filled_again_once_a_later_one_has():
    buffers = SharedBuffers(3, SIZE)
    held = buffers.receive(fill(buffers, 1))
    fill(buffers, 2)  # lost with an epoch that is left early
    last = buffers.receive(fill(buffers, 3))

    again = fill(buffers, 4)

    assert buffers.take(SHAPE) is None
    assert (held == 1).all() and (last == 3).all()
    assert (buffers.receive(again) == 4).all()


def test_a_batch_may_be_smaller_but_not_larger():
    buffers = SharedBuffers(1, SIZE)

    assert buffers.take((3, 3, 4, 5)) is None
    filled, pixels = buffers.take((1, 3, 4, 4))
    pixels.fill_(5)
    assert buffers.receive(filled).tolist() == pixels.tolist()
