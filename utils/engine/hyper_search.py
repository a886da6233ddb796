"""Search for better hyper-parameters by training again and again (`train.py --evolve`)."""

from __future__ import annotations

import csv
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.cli import check_options
from utils.engine.distributed import Ranks
from utils.engine.training_state import fitness
from utils.errors import ConfigError, DivergedError, MissingPackageError, UserError, first_line
from utils.logs import arguments_of, command_text
from utils.metrics.coco import CocoMetrics
from utils.output_files import atomic_path, write_json
from utils.plots.search_points import plot_search
from utils.run_folder import run_folder
from utils.strict_yaml import write_yaml
from utils.train_config import TrainConfig

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)
PROJECT = "runs/evolve"  # without --project
JOURNAL, TABLE, BEST = "study.journal", "evolve.csv", "hyp_evolve.yaml"
Train = Callable[[TrainConfig], CocoMetrics]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which values a hyper-parameter is searched; on a logarithmic scale with `log`."""

    low: float
    high: float
    log: bool = False


# YOLOv5's ranges. distill has an effect only with a teacher.
SPACE = {
    "lr0": Bounds(1e-5, 1e-1, log=True),
    "lrf": Bounds(0.01, 1.0, log=True),
    "momentum": Bounds(0.6, 0.98),
    "weight_decay": Bounds(0.0, 0.001),
    "warmup_epochs": Bounds(0.0, 5.0),
    "warmup_momentum": Bounds(0.0, 0.95),
    "warmup_bias_lr": Bounds(0.0, 0.2),
    "box": Bounds(0.02, 0.2),
    "cls": Bounds(0.2, 4.0),
    "cls_pw": Bounds(0.5, 2.0),
    "obj": Bounds(0.2, 4.0),
    "obj_pw": Bounds(0.5, 2.0),
    "anchor_t": Bounds(2.0, 8.0),
    "fl_gamma": Bounds(0.0, 2.0),
    "hsv_h": Bounds(0.0, 0.1),
    "hsv_s": Bounds(0.0, 0.9),
    "hsv_v": Bounds(0.0, 0.9),
    "degrees": Bounds(0.0, 45.0),
    "translate": Bounds(0.0, 0.9),
    "scale": Bounds(0.0, 0.9),
    "shear": Bounds(0.0, 10.0),
    "perspective": Bounds(0.0, 0.001),
    "flipud": Bounds(0.0, 1.0),
    "fliplr": Bounds(0.0, 1.0),
    "mosaic": Bounds(0.0, 1.0),
    "mixup": Bounds(0.0, 1.0),
    "copy_paste": Bounds(0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes:
        runs: how many have ended.
        best_run: number of the best one, counted from 1.
        fitness: of that one.
        AP: its AP.
        AP50: its AP at IoU 0.5.
        hyp: the yaml of its hyper-parameters.
        folder: where `evolve.csv` and `evolve.png` are, and a folder for each run.
    """

    runs: int
    best_run: int
    fitness: float
    AP: float
    AP50: float
    hyp: str
    folder: str


def search(config: TrainConfig, base: Mapping[str, float], train: Train) -> SearchResult:
    """Train `config.evolve` times in all, each time with hyper-parameters that promise most.

    The first run takes the given ones; the others are chosen by Optuna's tree-structured Parzen
    estimator. With `--exist-ok`, the search in an existing folder goes on where it stopped.

    Args:
        config: of every run, but for the hyper-parameters.
        base: the given hyper-parameters, by their names in a yaml.
        train: a whole training run.

    Raises:
        ConfigError: as `check_options`, or there are several processes.
        MissingPackageError: Optuna is not installed.
    """
    if Ranks.of_environment().count > 1:
        raise ConfigError("--evolve: runs one after the other, without torchrun")
    check_options(config, TrainConfig)
    count = config.evolve or 0
    project = PROJECT if config.project == TrainConfig().project else config.project
    with run_folder(project, config.name, exist_ok=config.exist_ok) as folder:
        study = _open_study(folder, base, config.seed)
        while (done := len(_finished(study))) < count:
            trial = study.ask()
            logger.info("evolve: run %d (%d of %d are done)", trial.number + 1, done, count)
            try:
                value, metrics = _train_once(trial, base, config, folder, train)
            except KeyboardInterrupt:
                logger.warning(
                    "To go on with the search: the same command and --name %s --exist-ok",
                    shlex.quote(folder.name),
                )
                raise
            except UserError:
                if not done and not config.exist_ok:
                    shutil.rmtree(folder, ignore_errors=True)  # it holds no run that has ended
                raise
            study.tell(trial, value)
            _write_results(study, base, folder)
            _drop_weights(study, folder)
            _log_run(metrics, study)
    result = _result(study, folder)
    if config.report:
        write_json(Path(config.report), asdict(result))
    logger.info("Best hyper-parameters: %s", result.hyp)
    omit = ("evolve", "hyp", "project", "name", "exist_ok", "report")
    arguments = ("--hyp", result.hyp, *arguments_of(config, omit))
    logger.info("Next: %s", command_text("train.py", *arguments))
    return result


def _log_run(metrics: CocoMetrics | None, study: optuna.Study) -> None:
    reached = "diverged"
    if metrics is not None:
        reached = f"mAP50 {metrics.AP50:.4f}, mAP50-95 {metrics.AP:.4f}"
    logger.info(
        "evolve: %s; best so far: run %d, fitness %.4f",
        reached, study.best_trial.number + 1, study.best_value,
    )  # fmt: skip


def _result(study: optuna.Study, folder: Path) -> SearchResult:
    best = study.best_trial
    return SearchResult(
        runs=len(_finished(study)),
        best_run=best.number + 1,
        fitness=study.best_value,
        AP=best.user_attrs.get("AP", 0.0),
        AP50=best.user_attrs.get("AP50", 0.0),
        hyp=str(folder / BEST),
        folder=str(folder),
    )


def _open_study(folder: Path, base: Mapping[str, float], seed: int) -> optuna.Study:
    """The study of a folder, new or continued, in which no run is left half done."""
    try:
        import optuna  # an extra
    except ImportError:
        raise MissingPackageError(
            "--evolve needs Optuna: pip install -r requirements-evolve.txt"
        ) from None
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / JOURNAL
    _drop_cut_line(journal)
    try:
        study = optuna.create_study(
            study_name="evolve",
            storage=JournalStorage(JournalFileBackend(str(journal))),
            direction="maximize",
            load_if_exists=True,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{journal}: is damaged ({first_line(error)}); search anew, with another --name"
        ) from None
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    if not study.trials:
        study.enqueue_trial(_first_values(base))
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:  # the search was cut off in it
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return study


def _drop_cut_line(journal: Path) -> None:
    """What a killed process wrote of its last line, behind which Optuna's next would be no line."""
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):  # whole, it is left as it is
            os.truncate(journal, content.rfind(b"\n") + 1)


def _first_values(base: Mapping[str, float]) -> dict[str, float]:
    """The given values, as near as the search comes to them."""
    first = {name: min(max(base[name], b.low), b.high) for name, b in SPACE.items()}
    for name, value in first.items():
        if value != base[name]:
            logger.warning("evolve: %s %g is searched from %g to %g: the first run has %g",
                           name, base[name], SPACE[name].low, SPACE[name].high, value)  # fmt: skip
    return first


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _train_once(
    trial: optuna.Trial,
    base: Mapping[str, float],
    config: TrainConfig,
    folder: Path,
    train: Train,
) -> tuple[float, CocoMetrics | None]:
    """Fitness and figures of one run; a run that diverges has fitness 0."""
    values = {
        name: trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)
        for name, bounds in SPACE.items()
    }
    run = _run_folder(folder, trial.number)
    run.mkdir(exist_ok=True)
    hyp = run / "hyp.yaml"
    write_yaml(hyp, {**base, **values})
    one_run = replace(
        config, evolve=None, hyp=str(hyp), project=str(folder), name=run.name, exist_ok=True,
        nosave=True, noplots=True, report="",
    )  # fmt: skip
    try:
        metrics = train(one_run)
    except DivergedError as error:
        logger.warning("%s", error)
        return 0.0, None
    trial.set_user_attr("AP", metrics.AP)
    trial.set_user_attr("AP50", metrics.AP50)
    return fitness(metrics.AP, metrics.AP50), metrics


def _drop_weights(study: optuna.Study, folder: Path) -> None:
    """Keep the best run's weights alone; of the others the curves stay."""
    best = _run_folder(folder, study.best_trial.number)
    for weights in folder.glob("run*/weights"):
        if weights.parent != best:
            shutil.rmtree(weights, ignore_errors=True)


def _run_folder(folder: Path, number: int) -> Path:
    return folder / f"run{number + 1}"


def _write_results(study: optuna.Study, base: Mapping[str, float], folder: Path) -> None:
    """The table of all runs, the best hyper-parameters, and how each of them did."""
    rows = [_row(trial) for trial in _finished(study)]
    with (
        atomic_path(folder / TABLE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=("run", "fitness", "AP", "AP50", *SPACE))
        writer.writeheader()
        writer.writerows(rows)
    write_yaml(folder / BEST, {**base, **study.best_params})
    plot_search(rows, tuple(SPACE), folder / "evolve.png")


def _row(trial: optuna.trial.FrozenTrial) -> Mapping[str, Any]:
    quality = {name: trial.user_attrs.get(name, 0.0) for name in ("AP", "AP50")}
    return {"run": trial.number + 1, "fitness": trial.value, **quality, **trial.params}
