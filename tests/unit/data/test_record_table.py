"""A table of records gives back what went into it, whatever is joined, taken and sliced."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from data.label_rules import LabelSet
from data.record_table import RecordTable, TableRows
from utils.structures import ImageRecord, Targets


def targets(rng, count):
    boxes = rng.uniform(0, 100, (count, 4)).astype(np.float32)
    return Targets(boxes, rng.integers(0, 9, count))


def random_records(seed, count, *, outlines):
    """With 0 to 3 objects, 0 to 2 crowd regions, 0 to 2 polygons an object."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(count):
        objects = int(rng.integers(4))
        shapes = tuple(
            tuple(
                rng.uniform(0, 100, (int(rng.integers(3, 6)), 2)).astype(np.float32)
                for _ in range(int(rng.integers(3)))
            )
            for _ in range(objects)
        )
        records.append(
            ImageRecord(
                path=Path(f"images/{number}.jpg"),
                image_hw=(int(rng.integers(10, 99)), int(rng.integers(10, 99))),
                targets=targets(rng, objects),
                image_id=2**70 + number,
                areas=rng.uniform(0, 100, objects).astype(np.float32),
                crowd=targets(rng, int(rng.integers(3))),
                outlines=shapes if outlines else (),
            )
        )
    return records


def table_of(records, *, outlines):
    rows = TableRows(outlines=outlines)
    for record in records:
        labels = LabelSet(record.targets, record.areas, record.crowd, record.outlines)
        rows.append(str(record.path), record.image_id, record.image_hw, labels)
    return rows.table()


def plain(records):
    """The same in numbers that can be compared."""
    return [
        (
            record.path,
            record.image_hw,
            record.image_id,
            record.areas.tolist(),
            [(t.boxes.tolist(), t.class_ids.tolist()) for t in (record.targets, record.crowd)],
            [[polygon.tolist() for polygon in outline] for outline in record.outlines],
        )
        for record in records
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("outlines", [False, True])
@pytest.mark.parametrize("count", [0, 1, 12])
def test_a_table_is_its_records(seed, outlines, count):
    records = random_records(seed, count, outlines=outlines)
    others = random_records(seed + 9, 5, outlines=outlines)
    table, other = table_of(records, outlines=outlines), table_of(others, outlines=outlines)
    order = np.random.default_rng(seed).integers(0, count + 5, 9)
    joined = table.join(other)

    assert plain(table) == plain(records) == plain(pickle.loads(pickle.dumps(table)))
    assert plain(table[1:-1:2]) == plain(records[1:-1:2])
    assert plain(joined) == plain([*records, *others])
    assert plain(joined.take(order)) == plain([[*records, *others][index] for index in order])
    assert table.object_counts.tolist() == [len(record.targets) for record in records]
    assert table.num_backgrounds == sum(
        not len(record.targets) and not len(record.crowd) for record in records
    )
    if not outlines:
        assert plain(RecordTable.of(records)) == plain(records)
        assert RecordTable.of(table) is table


def test_it_is_indexed_as_a_tuple_is():
    records = random_records(0, 3, outlines=False)
    table = table_of(records, outlines=False)
    assert plain([table[-1], table[np.int64(0)]]) == plain([records[-1], records[0]])
    for index in (3, -4):
        with pytest.raises(IndexError):
            table[index]
