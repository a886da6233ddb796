"""ncnn files: written by pnnx from a traced network, and run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.heads import in_batches
from models.runtimes.sidecar import Sidecar, write_metadata
from utils.errors import CheckFailedError, CheckpointError, ConfigError, MissingPackageError
from utils.structures import FloatArray

FOLDER_SUFFIX = "_ncnn_model"
PARAM, WEIGHTS = "model.ncnn.param", "model.ncnn.bin"
_INPUT = "in0"  # as pnnx calls it; outputs are out0, out1, ...


def write_ncnn(
    folder: Path, traced: Path, input_shape: tuple[int, ...], metadata: Mapping[str, Any]
) -> None:
    """Convert a traced network that ends in raw maps; weights stay in float32.

    Args:
        folder: where to write the three files.
        traced: a TorchScript file.
        input_shape: (1, 3, H, W).
        metadata: key -> value, for the JSON file beside the network, which has no room for it.

    Raises:
        MissingPackageError: pnnx is not installed.
        CheckFailedError: pnnx cannot convert it.
    """
    try:
        import pnnx  # an extra
    except ImportError:
        raise _missing() from None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        shutil.copyfile(traced, Path(place) / "model.pt")
        sizes = ",".join(str(size) for size in input_shape)
        command = [str(pnnx.EXEC_PATH), "model.pt", f"inputshape=[{sizes}]", "fp16=0"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        made = [Path(place) / name for name in (PARAM, WEIGHTS)]
        if done.returncode != 0 or not all(file.is_file() for file in made):
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise CheckFailedError(f"pnnx cannot convert the network: {' '.join(last)}")
        for file in made:
            file.replace(folder / file.name)
    write_metadata(folder, metadata)


class NcnnRunner:
    """A folder of ncnn files on a CPU, computing in float32, one image at a time."""

    def __init__(self, path: str | Path, *, device: str = "") -> None:
        """Open the folder.

        Raises:
            CheckpointError: not one that export.py wrote.
            ConfigError: another device than the CPU.
            MissingPackageError: ncnn is not installed.
        """
        if device not in ("", "cpu"):
            raise ConfigError(f"--device {device}: ncnn files run on cpu here")
        try:
            import ncnn  # an extra
        except ImportError:
            raise _missing() from None
        self.path = Path(path)
        sidecar = Sidecar.read(self.path)
        self.class_names, self.stride = sidecar.class_names, sidecar.stride
        self.input_hw: tuple[int | None, int | None] = sidecar.input_hw
        self.batch_size: int | None = 1
        self._heads = sidecar.heads
        self._ncnn, self._network = ncnn, ncnn.Net()
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(self._network.opt, option, False)
        for load, name in ((self._network.load_param, PARAM), (self._network.load_model, WEIGHTS)):
            if load(str(self.path / name)) != 0:
                raise CheckpointError(f"{self.path / name}: ncnn cannot read it")

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        extractor = self._network.create_extractor()
        image = np.ascontiguousarray(images[0], np.float32)
        extractor.input(_INPUT, self._ncnn.Mat(image).clone())  # else it only points there
        answers = [np.array(extractor.extract(name)[1])[None] for name in self._heads.outputs]
        return self._heads.decode(answers)


def _missing() -> MissingPackageError:
    return MissingPackageError(
        "ncnn files need ncnn and pnnx: pip install -r requirements-deploy.txt"
    )
