"""MLflow, in a file of this machine, has the figures of every epoch."""

from __future__ import annotations

import sys

import pytest

from data.synthetic.dataset import SyntheticConfig, write_dataset
from examples.train_with_mlflow import EXPERIMENT, train_with_mlflow
from tests.model_builders import write_tiny
from train import TrainConfig
from utils.engine.epoch_row import COLUMNS
from utils.errors import ConfigError, MissingPackageError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_of_mlflow_has_what_the_folder_has(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    data = write_dataset(tmp_path / "data", SyntheticConfig(images=8, size=64, seed=0))
    cfg = write_tiny(tmp_path / "tiny.yaml")
    monkeypatch.chdir(tmp_path)  # where it keeps files
    store = f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}"
    config = TrainConfig(
        data=str(data), cfg=str(cfg), imgsz=64, epochs=2, batch_size=4, workers=0, device="cpu",
        noplots=True, project=str(tmp_path / "runs"), name="tried",
    )  # fmt: skip
    result = train_with_mlflow(config, store)
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "tried" and run.info.status == "FINISHED"
    assert run.data.params["epochs"] == "2" and run.data.params["imgsz"] == "64"
    assert set(COLUMNS[1:]) <= run.data.metrics.keys()
    assert run.data.metrics["best/AP"] == pytest.approx(result.AP)
    history = client.get_metric_history(run.info.run_id, "train/box_loss")
    assert [each.step for each in history] == [0, 1]
    (artifact,) = client.list_artifacts(run.info.run_id, "weights")
    assert artifact.path == "weights/best.pt"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tracking", ["file:runs", "./runs"])
def test_where_mlflow_keeps_no_runs(tmp_path, monkeypatch, tracking):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"MLflow cannot keep runs there .* sqlite:///mlflow.db"):
        train_with_mlflow(TrainConfig(), tracking)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingPackageError, match="pip install mlflow-skinny"):
        train_with_mlflow(TrainConfig())
