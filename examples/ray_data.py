"""Find objects in a folder of images with several workers under Ray Data, on one machine or many.

`python -m examples.ray_data --weights best.onnx --source images/ --workers 2` writes a JSON line
per image, as `detect.py --save-jsonl` does, in the order of the files. On a cluster, `--address
auto` joins it, and weights and images must lie where every machine finds them. Ray tells its makers
that it is used, unless the variable RAY_USAGE_STATS_ENABLED is 0.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data.sources import SourceOptions, open_source
from detect import load_detector
from utils.errors import (
    ConfigError,
    DatasetError,
    MissingPackageError,
    UserError,
    first_line,
    missing_weights,
)
from utils.flag_rules import Choices
from utils.output_files import write_text
from utils.path_kind import path_kind

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
CONNECT_SECONDS = 10


class Finder:
    """What a worker runs: a detector of its own, loaded once."""

    def __init__(self, weights: str, device: str) -> None:
        """Load the network in the worker's process."""
        self._detector = load_detector(weights, device=device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row of one image, and what is in it; an image that cannot be read says why."""
        try:
            return {**row, "found": self._detector(row["path"]).to_json()}
        except DatasetError as error:
            return {**row, "found": json.dumps({"source": row["path"], "error": str(error)})}


def find_in_folder(
    weights: str, folder: str, *, workers: int, device: str = "cpu", address: str | None = None
) -> list[str]:
    """A line of JSON for every image of a folder, in the order of the files.

    Args:
        weights: a checkpoint or an exported file.
        folder: of the images, or a pattern; videos in it are not read.
        workers: how many processes look at images at the same time.
        device: of each worker: `cpu`, or `0` for a GPU, of which Ray gives one to each.
        address: of a cluster, `auto` or `host:port`; None starts Ray on this machine.

    Raises:
        ConfigError: there are no workers, no GPUs for them, or no cluster.
        CheckpointError: there is no such weights file.
        DatasetError: there are no images.
        MissingPackageError: Ray is not installed.
    """
    if workers < 1:
        raise ConfigError(f"--workers {workers}: must be at least 1")
    Choices(("cpu", "0")).check("--device", device)
    if path_kind(Path(weights)) is None:
        raise missing_weights(Path(weights))
    files = [file for file in open_source([folder], SourceOptions()).files if not file.is_video]
    rows = [
        {"number": number, "path": str(file.path.absolute())}
        for number, file in enumerate(files)
        if path_kind(file.path)
    ]
    if not rows:
        raise DatasetError(f"--source {folder}: has no image files, which alone are read here")
    ray = _ray()
    _start(ray, address)
    if device != "cpu" and not ray.cluster_resources().get("GPU"):  # it would wait for one
        raise ConfigError(f"--device {device}: Ray has no GPUs here; use cpu")
    found = ray.data.from_items(rows).map(
        Finder,
        fn_constructor_args=(str(Path(weights).absolute()), device),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=0 if device == "cpu" else 1,
    )
    return [row["found"] for row in sorted(found.take_all(), key=lambda row: int(row["number"]))]


def _start(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one on this machine.

    Raises:
        ConfigError: there is none at the address.
    """
    # Workers import this project: they look for it where it is, not where the program was started.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        if address is not None and ":" in address:  # Ray would try for minutes, and exit
            parts = urlsplit(address if "://" in address else f"//{address}")
            socket.create_connection((parts.hostname, parts.port), CONNECT_SECONDS).close()
        ray.init(address, runtime_env={"env_vars": {"PYTHONPATH": path}}, ignore_reinit_error=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--address {address}: no Ray there ({first_line(error)})") from None


def _ray() -> Any:
    try:
        import ray.data
    except ImportError:
        raise MissingPackageError(
            'this example needs the package ray; pip install "ray[data]"'
        ) from None
    return ray


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 2 where a file or a flag is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", required=True, help="checkpoint or exported file")
    parser.add_argument("--source", required=True, help="folder of images, or a pattern")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--device", default="cpu", help="of each worker: cpu, or 0 for a GPU each")
    parser.add_argument("--address", help="of a cluster; none starts Ray on this machine")
    parser.add_argument("--output", type=Path, default=Path("predictions.jsonl"), help="file")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        lines = find_in_folder(given.weights, given.source, workers=given.workers,
                               device=given.device, address=given.address)  # fmt: skip
    except UserError as error:
        logger.error("error: %s", error)
        return 2
    write_text(given.output, "".join(f"{line}\n" for line in lines))
    logger.info("%d images: %s", len(lines), given.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
