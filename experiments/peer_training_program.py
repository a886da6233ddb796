"""A training run of the package yolov5, in its own Python: see `experiments.peer_training`.

Runs where that package is installed, without this project: `peer_training_program.py FOLDER JSON`
trains into FOLDER with the JSON as the arguments of its `train.run`, or goes on where it stood.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def provide_roboflow(folder: Path) -> None:
    """Write the package roboflow, empty: yolov5 imports it before anyone asks for its service."""
    for path, name in (("roboflow", "Roboflow"), ("roboflow/core", ""),
                       ("roboflow/core/version", "Version")):  # fmt: skip
        (folder / path).mkdir(parents=True, exist_ok=True)
        (folder / path / "__init__.py").write_text(f"{name} = None\n" if name else "")


def main() -> None:
    """Train to the end."""
    folder, arguments = Path(sys.argv[1]), json.loads(sys.argv[2])
    del sys.argv[1:]  # its own parser reads them, too
    provide_roboflow(folder / "stand_in")
    sys.path.append(str(folder / "stand_in"))
    from yolov5 import train

    last = folder / "weights" / "last.pt"
    train.run(**arguments, resume=str(last) if last.exists() else False)


if __name__ == "__main__":
    main()
