"""ncnn: a folder of .param and .bin, written by pnnx from a traced network that ends in raw maps.

Weights stay in float32. The files have no room for metadata, which is in a JSON file beside them.
Run by ncnn on the CPU, in float32, one image at a time.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.formats.format import Format, NetworkFile, Package, Preset
from models.runtimes.heads import in_batches
from models.runtimes.runner import Runtime
from models.runtimes.sidecar import Sidecar, write_metadata
from utils.errors import CheckFailedError, CheckpointError, ConfigError, MissingPackageError
from utils.structures import FloatArray

PARAM, WEIGHTS = "model.ncnn.param", "model.ncnn.bin"
_INPUT = "in0"  # as pnnx calls it; outputs are out0, out1, ...


def write_ncnn(source: NetworkFile, folder: Path) -> None:
    """Convert a traced program.

    Raises:
        MissingPackageError: pnnx is not installed.
        CheckFailedError: pnnx cannot convert it.
    """
    try:
        import pnnx  # an extra
    except ImportError:
        raise _missing() from None
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        shutil.copyfile(source.path, Path(workdir) / "model.pt")
        sizes = (source.sizes.batch_size, 3, *source.sizes.input_hw)
        shape = ",".join(str(size) for size in sizes)
        command = [str(pnnx.EXEC_PATH), "model.pt", f"inputshape=[{shape}]", "fp16=0"]
        done = subprocess.run(command, cwd=workdir, capture_output=True, text=True, check=False)
        made = [Path(workdir) / name for name in (PARAM, WEIGHTS)]
        if done.returncode != 0 or not all(file.is_file() for file in made):
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise CheckFailedError(f"pnnx cannot convert the network: {' '.join(last)}")
        for file in made:
            file.replace(folder / file.name)
    write_metadata(folder, source.metadata)


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
        self.known_hw = sidecar.known_hw
        self.batch_size: int | None = 1
        self.suppresses = False  # a sidecar is one of raw maps
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


NCNN = Runtime("ncnn", NcnnRunner)
FORMAT = Format(
    name="ncnn",
    runtime=NCNN,
    presets=(
        Preset(
            name="ncnn", description="ncnn on phones and boards", outputs="raw maps", head="raw",
            suffix="_ncnn_model", runtime=NCNN, dynamic=False, one_image=True, traced=True,
            is_folder=True, convert=write_ncnn, packages=(Package("ncnn"), Package("pnnx")),
        ),
    ),
)  # fmt: skip
