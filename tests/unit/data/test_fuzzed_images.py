"""Damaged and hostile image files: only this project's errors, in bounded time and memory."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.dataset_spec import load_dataset_spec
from data.decoded_image import MAX_PIXELS, MAX_PIXELS_PER_BYTE
from data.image_facts import examine_image
from data.image_file import read_image
from data.image_formats import read_header
from data.image_series import SeriesPart, has_several, read_series
from data.records import scan_split
from tests.unit.data.builders import write_yaml
from tests.unit.data.damaged_images import claim, damaged, good_files
from utils.errors import DatasetError, UserError
from utils.structures import Skipped

# Pillow warns about odd metadata.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
MAX_SECONDS = 5  # of a processor, which other work on the machine does not lengthen
BYTES_PER_PIXEL = 24  # at most, while one is decoded: 16 bits, four channels, and copies
QUICK, SLOW = 400, 6000
GIGABYTES = [(30_000, 30_000), (65_535, 65_535), (2**24, 2**24), (2**31 - 1, 2**31 - 1)]
MB = 1e6
PEAK = """
import json, resource, sys
from pathlib import Path
from data.image_facts import examine_image
from data.image_file import read_image
from utils.errors import DatasetError
read_image(Path(sys.argv[1]))  # loads decoders
usage = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, errors = usage(), 0
for path in sys.argv[2:]:
    for read in (read_image, examine_image):
        try:
            read(Path(path))
        except DatasetError:
            errors += 1
print(json.dumps([usage() - before, errors]))
"""


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return good_files()


def write_damaged(folder: Path, files: dict[str, bytes], seed: int) -> Path:
    """A damaged file, one in five with the suffix of another."""
    rng = np.random.default_rng(seed)
    names = list(files)
    name, other, third = (names[index] for index in rng.integers(len(names), size=3))
    suffix = Path(third if rng.random() < 0.2 else name).suffix
    path = folder / f"{seed}{suffix}"
    path.write_bytes(damaged(files[name], files[other], rng))
    return path


@pytest.mark.parametrize(
    "seeds",
    [range(QUICK), pytest.param(range(QUICK, QUICK + SLOW), marks=pytest.mark.slow)],
    ids=["quick", "slow"],
)
def test_damaged_images(tmp_path, files, seeds):
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        path = write_damaged(tmp_path, files, seed)
        outcomes[check_image(path, seed)] += 1
        path.unlink()
    logging.getLogger(__name__).info("%d images: %s", len(seeds), dict(outcomes))
    assert outcomes["read"] > 50 and outcomes["refused"] > 100


def check_image(path: Path, seed: int) -> str:
    """How reading ends: every error is ours and names the file, all that passes are pixels."""
    sizes = []
    for read in (examine_image, read_image, read_header):
        start = time.process_time()
        try:
            found = read(path) if read is not read_header else read(path, path.read_bytes())
        except UserError as error:
            assert str(error).startswith(f"{path}: "), seed
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        finally:
            assert time.process_time() - start < MAX_SECONDS, seed
        if isinstance(found, np.ndarray):
            assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3, seed
            sizes.append(found.shape[0] * found.shape[1])
    check_series(path, seed)
    assert not sizes or 0 < sizes[0] <= MAX_PIXELS, seed
    return "read" if sizes else "refused"


def check_series(path: Path, seed: int) -> None:
    """As `check_image`, of all images of a file that has several."""
    start = time.process_time()
    try:
        for item in read_series(path, SeriesPart()) if has_several(path) else ():
            if not isinstance(item, Skipped):
                pixels = item.decoded.pixels
                assert pixels.dtype == np.uint8 and pixels.ndim == 3, seed
                assert pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS, seed
    except UserError as error:
        assert str(error).startswith(f"{path}: "), seed
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    assert time.process_time() - start < MAX_SECONDS, seed


def test_the_scan_skips_damaged_images(tmp_path, files):
    """In threads, as training does; what it keeps can be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(150):
        write_damaged(folder, files, seed)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    yaml = write_yaml(tmp_path, "train: images\nval: images\nnames: [cat]\nbackground_only: true\n")

    result = scan_split(load_dataset_spec(yaml), "train")

    skipped = [problem for problem in result.problems if str(folder) in problem.text]
    several = [name for name in files if name.startswith("several.")]
    assert len(result.records) >= len(files) - len(several) and len(skipped) > 50
    for record in result.records:
        assert read_image(record.path).size


def test_claims_of_gigabytes_are_refused_by_the_header(tmp_path, files):
    """All formats: far less memory is used than the claim, or even the limit, would take."""
    paths = []
    for height, width in GIGABYTES:
        for name, content in files.items():
            paths.append(tmp_path / f"{height}_{name}")
            paths[-1].write_bytes(claim(content, height, width))
    (tmp_path / "good.png").write_bytes(files["rgb.png"])

    growth, errors = measure_peak(tmp_path / "good.png", paths)

    assert errors > len(paths) and growth < 300 * MB


@pytest.mark.slow
def test_a_claim_just_within_the_limit_takes_a_bounded_amount(tmp_path, files):
    side = int(MAX_PIXELS**0.5)
    (tmp_path / "good.png").write_bytes(files["rgb.png"])
    for name, content in files.items():
        path = tmp_path / name
        # As many bytes as such a claim needs to be believed.
        path.write_bytes(claim(content, side, side) + bytes(MAX_PIXELS // MAX_PIXELS_PER_BYTE))
        growth, _ = measure_peak(tmp_path / "good.png", [path])
        assert growth < BYTES_PER_PIXEL * MAX_PIXELS, name


def measure_peak(good: Path, paths: list[Path]) -> tuple[int, int]:
    """Growth in bytes of a process that reads these files, and how many times it was refused."""
    pytest.importorskip("resource", reason="memory is measured in /proc")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, str(good), *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    growth, errors = json.loads(done.stdout)
    return growth, errors


@pytest.mark.parametrize("read", [read_image, examine_image])
@pytest.mark.parametrize("name", ["rgb.jpg", "rgb.png", "rgb.jp2", "rgb.bmp"])
def test_few_bytes_cannot_hold_many_pixels(tmp_path, files, name, read):
    path = tmp_path / name
    path.write_bytes(claim(files[name], 13_000, 12_000))
    size = path.stat().st_size

    with pytest.raises(DatasetError) as caught:
        read(path)

    assert str(caught.value) == (
        f"{path}: 12000x13000 pixels cannot be in {size} bytes; it is damaged"
    )


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n%%EOF\n"


@pytest.mark.parametrize("read", [read_image, examine_image])
def test_no_program_is_run_for_an_image(tmp_path, monkeypatch, read):
    """Pillow hands EPS, whatever its suffix, to Ghostscript."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    path = tmp_path / "a.png"
    path.write_bytes(EPS)

    with pytest.raises(DatasetError, match="not an image"):
        read(path)
