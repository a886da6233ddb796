"""Train with the figures of every epoch in MLflow, which keeps them on this machine or a server.

`python -m examples.train_with_mlflow --data my.yaml --cfg repyolov5n.yaml` takes the flags of
train.py. By itself MLflow writes `mlflow.db` and `mlruns/` in the working directory, where
`mlflow ui`, of the whole package mlflow, shows them. W&B, ClearML and Comet take the same
dictionary of numbers: `wandb.log(row.figures(), step=row.epoch)`, for one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from train import TrainConfig, train
from utils.cli import run_script
from utils.engine.epoch_row import EpochRow
from utils.engine.training_report import TrainResult
from utils.errors import ConfigError, MissingPackageError, first_line
from utils.strict_mapping import to_flat
from utils.train_config import REFUSED

logger = logging.getLogger(__name__)
EXPERIMENT = "detectors"


def train_with_mlflow(config: TrainConfig, tracking: str | None = None) -> TrainResult:
    """Train as `train` does, as a run of MLflow with settings, figures and the best checkpoint.

    Args:
        config: the flags.
        tracking: where MLflow keeps runs, as `sqlite:///mlflow.db` or a server's address; None as
            the variable MLFLOW_TRACKING_URI says, or else as MLflow does by itself.

    Raises:
        ConfigError: MLflow cannot keep runs there.
        MissingPackageError: MLflow is not installed.
        UserError: a file or a flag is wrong.
    """
    mlflow = _mlflow()
    try:
        if tracking is not None:
            mlflow.set_tracking_uri(tracking)
        mlflow.set_experiment(EXPERIMENT)
    except mlflow.exceptions.MlflowException as error:  # folders, which it took once, among them
        raise ConfigError(
            f"{mlflow.get_tracking_uri()}: MLflow cannot keep runs there ({first_line(error)}); "
            "name sqlite:///mlflow.db (pip install sqlalchemy alembic), or a server"
        ) from None

    def log(row: EpochRow) -> None:
        mlflow.log_metrics(row.figures(), step=row.epoch)

    with mlflow.start_run(run_name=config.name):
        mlflow.log_params(to_flat(config))
        result = train(config, on_epoch=log)
        mlflow.log_metrics({"best/AP": result.AP, "best/AP50": result.AP50})
        mlflow.log_artifact(str(result.weights.best), "weights")
    return result


def _mlflow() -> Any:
    try:
        import mlflow
    except ImportError:
        raise MissingPackageError(
            "training with MLflow needs the package mlflow-skinny; pip install mlflow-skinny"
        ) from None
    return mlflow


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(TrainConfig, _run, argv, REFUSED)


def _run(config: TrainConfig) -> int:
    result = train_with_mlflow(config)
    logger.info("AP %.4f; MLflow has the run, and %s the files", result.AP, result.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
