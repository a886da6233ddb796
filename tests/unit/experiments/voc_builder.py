"""A data set as `data/voc07` has it, of two drawn images."""

from __future__ import annotations

from pathlib import Path

from tests.unit.data.builders import write_image


def write_voc(shared: Path) -> Path:
    """Write it into a shared folder, which is returned: a cat and a difficult dog, and a dog."""
    root = shared / "data" / "voc07"
    for stem in ("a", "b"):
        write_image(root / "images" / f"{stem}.jpg", (40, 80))
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.25 0.5 0.25 0.5\n")
    (root / "labels" / "b.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (root / "difficult.txt").write_text("a 1\n")
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("images/a.jpg\nimages/b.jpg\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    return shared
