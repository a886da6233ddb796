"""Which cases become crops: the worst of each cell and kind, so that a page stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from utils.gallery.cases import KIND_NAMES, Case

MAX_CROPS = 4000  # on a page: some tens of MB
CORRECT_STEP = 3  # rounds in which other kinds get a crop before correct detections get another
Group = tuple[str, int, int]  # kind, row, column


@dataclass(frozen=True, slots=True)
class Selection:
    """The cases to show, and how many there are.

    Attributes:
        cases: in the order of their images.
        counts: of all cases, per kind and cell.
    """

    cases: tuple[Case, ...]
    counts: Counter[Group]


def select_worst(cases: Iterable[Case], per_group: int, max_crops: int = MAX_CROPS) -> Selection:
    """Keep the worst cases of each cell and kind, without holding many more at any time.

    Args:
        cases: all of them.
        per_group: maximum number of each kind in each cell.
        max_crops: in all. If there are more, half of them are the worst of as many cells as
            possible; of the others each class gets as many of each kind, but fewer correct ones.
    """
    counts: Counter[Group] = Counter()
    groups: dict[Group, list[Case]] = {}
    for case in cases:
        key = (case.kind, case.row, case.column)
        counts[key] += 1
        group = groups.setdefault(key, [])
        group.append(case)
        if len(group) > 2 * per_group:
            _trim(group, per_group)
    for group in groups.values():
        _trim(group, per_group)
    ordered = _in_turn(groups.values())
    heads = [case for is_head, case in ordered if is_head][: max_crops // 2]
    chosen = {id(case) for case in heads}
    rest = [case for _, case in ordered if id(case) not in chosen]
    kept = [*heads, *rest[: max_crops - len(heads)]]
    return Selection(tuple(sorted(kept, key=lambda case: case.image)), counts)


def _in_turn(groups: Iterable[list[Case]]) -> list[tuple[bool, Case]]:
    """All cases, round after round, in which each class gives one of each kind.

    Returns:
        whether a case is the worst of its cell and kind, and the case.
    """
    of_class: dict[tuple[str, int], list[tuple[int, tuple[float, float], Case]]] = {}
    for group in groups:
        for position, case in enumerate(group):
            of_class.setdefault((case.kind, case.class_id), []).append(
                (position, case.rank(), case)
            )
    turns = []
    for (kind, class_id), entries in of_class.items():
        entries.sort(key=lambda entry: entry[:2])
        step = CORRECT_STEP if kind == "correct" else 1
        for number, (position, _, case) in enumerate(entries):
            turn = (number * step, KIND_NAMES.index(kind), class_id)
            turns.append((turn, position == 0, case))
    turns.sort(key=lambda entry: entry[0])
    return [(is_head, case) for _, is_head, case in turns]


def _trim(group: list[Case], length: int) -> None:
    group.sort(key=Case.rank)
    del group[length:]
