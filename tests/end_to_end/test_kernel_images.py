"""What `python -m models.kernel_images` writes for each kind of network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from models import kernel_images
from models.conversion.deploy import to_deploy
from models.kernel_statistics import layer_kernels, skeleton
from models.network.detector import build_model
from tests.checkpoint_builders import save_model, save_yolov5
from tests.model_builders import tiny_spec, trained_model

SKELETON = "kernel_skeleton.png"
OF_BRANCHES = {"branch_contributions.png", "branch_similarity.png"}
KEYS = ["skeleton", "branches", "similarity", "folder"]
TERMS = ["origin", "1x1_avg", "1x1_prior", "1x1_kxk", "separable", "1x1"]

BRANCHES = {  # of each kind of network
    "RepVGG": ["kxk", "1x1", "identity"],
    "OREPA": TERMS,
    "deploy": [],
    "plain": [],
    "yolov5": [],
}
each_kind = pytest.mark.parametrize("kind", BRANCHES)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one run left."""

    folder: Path
    report: dict


def save(path: Path, kind: str) -> Path:
    """A small trained network's checkpoint."""
    if kind in ("RepVGG", "OREPA"):
        return save_model(path, trained_model(tiny_spec(rep_block=kind)))
    if kind == "deploy":
        return save_model(path, to_deploy(trained_model(tiny_spec())), "deploy")
    if kind == "yolov5":
        return save_yolov5(path, trained_model(tiny_spec(rep_block=None, activation="SiLU")))
    return save_model(path, trained_model(tiny_spec(rep_block=None)))


def draw(weights: Path, folder: Path) -> Drawn:
    arguments = ["--weights", weights, "--project", folder, "--report", folder / "report.json"]
    assert kernel_images.main([str(word) for word in arguments]) == 0
    report = json.loads((folder / "report.json").read_text())
    return Drawn(Path(report["folder"]), report)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, Drawn]:
    """One run per kind of network."""
    folder = tmp_path_factory.mktemp("drawn")
    return {kind: draw(save(folder / f"{kind}.pt", kind), folder / kind) for kind in BRANCHES}


@each_kind
def test_images(drawn, kind):
    """Branches are drawn where there are any, before and after conversion; else one skeleton."""
    folder = drawn[kind].folder
    assert folder == folder.parent / "exp"
    expected = {SKELETON} | (OF_BRANCHES if BRANCHES[kind] else set())
    assert {path.name for path in folder.iterdir()} == expected
    for path in folder.iterdir():
        image = cv2.imread(str(path))
        assert image is not None
        assert min(image.shape[:2]) > 300
        assert image.std() > 10  # not blank


def test_a_network_with_branches_has_two_skeletons(drawn):
    """Side by side: twice as wide as the one of a plain network."""
    widths = {
        kind: cv2.imread(str(found.folder / SKELETON)).shape[1] for kind, found in drawn.items()
    }
    assert widths["RepVGG"] == widths["OREPA"] == 2 * widths["plain"]
    assert widths["deploy"] == widths["yolov5"] == widths["plain"]


@each_kind
def test_report(drawn, kind):
    report, names = drawn[kind].report, BRANCHES[kind]
    assert list(report) == KEYS
    assert list(report["skeleton"]) == ["main", "merged"]
    for grid in map(np.array, report["skeleton"].values()):
        assert grid.shape == (3, 3)
        assert (grid > 0).all() and grid.max() <= 1
    same = report["skeleton"]["main"] == report["skeleton"]["merged"]
    assert same is (kind == "deploy")  # elsewhere a norm lies between them
    assert list(report["branches"]) == report["similarity"]["names"] == names
    assert all(0 < share < 10 for share in report["branches"].values())
    cosine = np.array(report["similarity"]["cosine"]).reshape(len(names), len(names))
    assert np.array_equal(cosine, cosine.T)
    assert np.array_equal(np.diag(cosine), np.ones(len(names)))
    assert (cosine >= 0).all() and (cosine <= 1).all()


@pytest.mark.parametrize("kind", ["RepVGG", "OREPA"])
def test_the_figures_are_those_of_the_network(drawn, kind):
    layers = layer_kernels(trained_model(tiny_spec(rep_block=kind)))
    found = drawn[kind].report["skeleton"]
    np.testing.assert_allclose(found["main"], skeleton([layer.main for layer in layers]))
    np.testing.assert_allclose(found["merged"], skeleton([layer.merged for layer in layers]))


def test_a_deploy_form_has_the_merged_skeleton_of_its_train_form(drawn):
    merged = [drawn[kind].report["skeleton"]["merged"] for kind in ("RepVGG", "deploy")]
    np.testing.assert_allclose(*merged, rtol=1e-5)


def test_the_console_says_what_the_report_says(drawn, capsys):
    found = drawn["RepVGG"]
    weights = found.folder.parents[1] / "RepVGG.pt"
    arguments = ["--weights", weights, "--project", found.folder.parent, "--name", "said"]
    assert kernel_images.main([str(word) for word in arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    centre = found.report["skeleton"]["main"][1][1]
    assert f" {centre:.3f} " in lines[0]
    for name, share in found.report["branches"].items():
        assert f"{name:<12} adds {share:.3f} of the merged kernel's root mean square" in lines
    assert lines[-1] == f"Images saved to {found.folder.parent / 'said'}"


def test_a_folder_is_not_used_again_unless_asked(tmp_path):
    weights = save(tmp_path / "a.pt", "plain")
    assert [draw(weights, tmp_path / "runs").folder.name for _ in range(2)] == ["exp", "exp2"]
    arguments = ["--weights", weights, "--project", tmp_path / "runs", "--exist-ok"]
    assert kernel_images.main([str(word) for word in arguments]) == 0
    assert not (tmp_path / "runs" / "exp3").exists()


# Mistakes


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a text and a network without a 3x3."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pt").write_text("hello")
    rows = [[-1, 1, "Conv", [32, 6, 2, 2]], [-1, 1, "Conv", [32, 1]], [-1, 1, "Conv", [32, 5]]]
    spec = tiny_spec(anchors=[[10, 13]], backbone=rows, head=[[2, 1, "Detect", []]])
    save_model(tmp_path / "others.pt", trained_model(spec))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give a checkpoint: --weights runs/train/exp/weights/best.pt"),
        ("--weights gone.pt", "gone.pt: no such weights file (nothing is ever downloaded)"),
        ("--weights text.pt", "text.pt: not a PyTorch checkpoint (it is text)"),
        ("--weights others.pt", "others.pt: has no 3x3 convolution to draw"),
    ],
)
def test_a_mistake_costs_one_line_and_leaves_nothing(folder, capsys, arguments, message):
    before = sorted(folder.rglob("*"))
    assert kernel_images.main([*arguments.split(), "--report", "report.json"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert sorted(folder.rglob("*")) == before


def test_more_branches_than_colours(tmp_path):
    spec = tiny_spec(rep_block="MobileOne(branches=9)")
    weights = save_model(tmp_path / "many.pt", trained_model(spec))
    assert kernel_images.main(["--weights", str(weights), "--project", str(tmp_path)]) == 0


def test_the_report_is_json_where_branches_are_silent(tmp_path):
    weights = save_model(tmp_path / "fresh.pt", build_model(tiny_spec()))
    report = tmp_path / "report.json"
    arguments = ["--weights", str(weights), "--project", str(tmp_path), "--report", str(report)]
    assert kernel_images.main(arguments) == 0
    content = json.loads(report.read_text(), parse_constant=pytest.fail)
    assert content["similarity"]["cosine"][0][1] is None
