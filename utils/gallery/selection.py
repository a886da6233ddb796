"""Which cases become crops: the worst of each cell and kind, so that a page stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from utils.gallery.cases import KIND_NAMES, Case

MAX_CROPS = 3000  # on a page: about 30 MB of images
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
        max_crops: in all. If there are more, the worst of every cell and kind come first, then the
            second worst, and so on.
    """
    counts: Counter[Group] = Counter()
    groups: dict[Group, list[Case]] = {}
    for case in cases:
        key = (case.kind, case.row, case.column)
        counts[key] += 1
        group = groups.setdefault(key, [])
        group.append(case)
        if len(group) >= 2 * per_group + 1:
            _trim(group, per_group)
    ranked: list[tuple[int, int, Case]] = []
    for (kind, _, _), group in groups.items():
        _trim(group, per_group)
        ranked += [(rank, KIND_NAMES.index(kind), case) for rank, case in enumerate(group)]
    ranked.sort(key=lambda each: each[:2])
    kept = [case for _, _, case in ranked[:max_crops]]
    return Selection(tuple(sorted(kept, key=lambda case: case.image)), counts)


def _trim(group: list[Case], length: int) -> None:
    group.sort(key=Case.rank)
    del group[length:]
