"""What a network finds in a view is kept for that network alone."""

from __future__ import annotations

from experiments.tiles import kept_views


def test_each_network_has_a_folder_of_its_own(tmp_path):
    runs, weights = tmp_path / "runs", tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    first = kept_views(runs, weights)
    (first / "view.npz").touch()
    assert kept_views(runs, weights) == first and (first / "view.npz").exists()

    weights.write_bytes(b"other")  # trained again, under the same name
    second = kept_views(runs, weights)
    assert second != first and list(second.iterdir()) == []


def test_a_network_may_be_a_folder(tmp_path):
    folder = tmp_path / "x_openvino_model"
    folder.mkdir()
    (folder / "x.bin").write_bytes(b"one")
    first = kept_views(tmp_path / "runs", folder)
    (folder / "x.bin").write_bytes(b"other")
    assert kept_views(tmp_path / "runs", folder) != first
