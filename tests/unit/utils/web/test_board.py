"""What those who look on get, and that the run never waits for them."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.structures import Detections, Frame, StreamState
from utils.web.board import LONGEST_SIDE, MAX_READERS, MAX_WAITING_LINES, LiveBoard

FRAME = Frame(np.zeros((48, 64, 3), np.uint8), "a.mp4", Path("a.mp4"), 1, 1, 1, 9, 25.0, True)
CAT = Detections(
    np.array([[1, 2, 30, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)
)


def publish(board, number=1, names=("cat",), *, frame=FRAME, draw=lambda f, _: f.image):
    frame = replace(frame, frame_index=number)
    board.publish(frame, CAT, names, draw, lambda: b"%d" % number)


def test_counts_and_totals():
    board = LiveBoard()
    assert board.as_values()["sources"] == []
    publish(board, 1, ("cat", "cat", "dog"))
    publish(board, 2, ("dog",))
    (source,) = board.as_values()["sources"]
    assert source["counts"] == {"dog": 1} and source["totals"] == {"cat": 2, "dog": 2}
    assert (source["frames"], source["frame"], source["frame_count"]) == (2, 2, 9)
    assert source["lag"] is None and source["rate"] > 0
    json.dumps(board.as_values())


def test_files_share_a_place_and_streams_have_their_own():
    board = LiveBoard()
    for position in range(1, 1000):
        publish(board, frame=replace(FRAME, position=position, source=f"{position}.jpg"))
    (source,) = board.as_values()["sources"]
    assert source["source"] == "999.jpg" and source["frames"] == 999
    states = [StreamState("door", dropped=3), StreamState("yard", gave_up=True)]
    live = LiveBoard(states)
    publish(live, frame=replace(FRAME, position=2, captured=0.0))
    door, yard = live.as_values()["sources"]
    assert door["source"] == "door" and door["frames"] == 0 and door["dropped"] == 3
    assert yard["frames"] == 1 and yard["gave_up"] and yard["lag"] > 1e6
    assert live.jpeg(1) is None and live.jpeg(2) is not None and live.jpeg(3) is None


def test_images_are_drawn_for_those_who_ask_alone():
    board, drawn = LiveBoard(), []

    def draw(frame, detections):
        drawn.append(frame.frame_index)
        return np.full((50, 4000, 3), (255, 0, 0), np.uint8)

    for number in range(1, 10):
        publish(board, number, draw=draw)
    assert drawn == []
    found = [board.jpeg(1) for _ in range(3)]
    assert drawn == [9] and found[0] == found[1] == found[2]
    image = cv2.imdecode(np.frombuffer(found[0][1], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (24, LONGEST_SIDE, 3)
    assert image[12, 900, 2] > 200 > 50 > image[12, 900, 0]  # red is red


def test_lines_that_nobody_fetches_are_dropped():
    board = LiveBoard()
    reader = board.subscribe()
    for number in range(1000):
        publish(board, number)
    lines, dropped = board.take(reader)
    assert dropped == 1000 - MAX_WAITING_LINES
    assert lines == [b"%d" % number for number in range(dropped, 1000)]
    assert board.take(reader) == ([], 0)


def test_lines_are_made_for_readers_alone():
    board = LiveBoard()
    reader = board.subscribe()
    board.unsubscribe(reader)
    board.publish(FRAME, CAT, ("cat",), lambda f, _: f.image, lambda: pytest.fail("made"))
    readers = [board.subscribe() for _ in range(MAX_READERS + 1)]
    assert readers[-1] is None and None not in readers[:-1]


def test_a_drawing_under_way_holds_nobody_up():
    board, begun, go_on = LiveBoard(), threading.Event(), threading.Event()

    def draw(frame, detections):
        begun.set()
        assert go_on.wait(60)
        return frame.image

    publish(board, 1, draw=draw)
    looking = threading.Thread(target=board.jpeg, args=(1,))
    looking.start()
    assert begun.wait(60)
    publish(board, 2)
    assert board.as_values()["sources"][0]["frames"] == 2
    go_on.set()
    looking.join()
    assert board.jpeg(1)[0].frame_index == 2


@pytest.mark.parametrize("looked", [False, True])
def test_the_end_is_told_to_those_who_looked_of_late(looked):
    board = LiveBoard()
    if looked:
        board.as_values()
    board.end()
    ending = threading.Thread(target=board.wait_told, args=(60,))
    ending.start()
    ending.join(0.2 if looked else 30)
    assert ending.is_alive() is looked
    assert board.as_values()["ended"]
    ending.join(30)
    assert not ending.is_alive()
