"""The largest batch that fits into memory, found by trying."""

from __future__ import annotations

from collections.abc import Callable

GROWTH = 4  # times the largest batch known to fit, at most, per trial
CLOSE_ENOUGH = 0.05  # a batch larger by less is not worth a trial


def largest_batch(measure: Callable[[int], int | None], budget: int, most: int) -> int:
    """The largest batch size whose measured memory is within a budget, nearly.

    The search ends where the next trial would gain less than 5 %; what is found may be 10 % smaller
    than the largest.

    Memory grows nearly in a straight line with the batch: two trials tell where to try next.

    Args:
        measure: batch size -> bytes at the peak; None where they did not suffice.
        budget: bytes.
        most: the largest batch size wanted, at least 1.

    Returns:
        One that was tried and fits; 0 if not even 1 does.
    """
    fitting: list[tuple[int, int]] = []  # batch size and its bytes, ascending
    too_large: int | None = None  # the smallest that was tried and does not fit
    batch_size: int | None = 1
    while batch_size is not None:
        used = measure(batch_size)
        if used is None or used > budget:
            too_large = batch_size
        else:
            fitting.append((batch_size, used))
        batch_size = _next_trial(fitting, too_large, budget, most)
    return fitting[-1][0] if fitting else 0


def _next_trial(
    fitting: list[tuple[int, int]], too_large: int | None, budget: int, most: int
) -> int | None:
    """Where to try next between what fits and what does not; None where it is settled."""
    if not fitting:
        return None
    size, used = fitting[-1]
    limit = most if too_large is None else too_large - 1
    if len(fitting) == 1:
        return min(2 * size, limit) if limit > size else None
    size_before, used_before = fitting[-2]
    per_image = (used - used_before) / (size - size_before)
    expected = GROWTH * size if per_image <= 0 else size + int((budget - used) / per_image)
    if too_large is not None and expected >= too_large:  # refuted: take the middle
        expected = (size + too_large) // 2
    trial = min(expected, GROWTH * size, limit)
    gain = trial - size
    worth_it = gain > 0 and (trial == most or gain >= CLOSE_ENOUGH * size)
    return trial if worth_it else None
