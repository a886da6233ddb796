"""The runs of `experiments.block_training`: which networks, on which data, and how they start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.hyps import HYPS_FOLDER
from experiments.deadline import Deadline
from experiments.limited_training import Program, epochs_of, train_within
from experiments.run_evaluation import DRAWS_FILE, FIGURES_FILE
from experiments.training_runs import bccd_yaml, note_commit
from experiments.voc_data import voc_yaml_without_difficult
from utils.strict_yaml import find_shipped, read_yaml, write_yaml

HYP, WARMUP_EPOCHS = "hyp.scratch-low.yaml", 3.0
SCRATCH, PRETRAINED = "scratch", "yolov5n.pt"
STARTS = (SCRATCH, PRETRAINED)
STRAIGHT = "experiments/straight_n.yaml"
LEAKY = "LeakyReLU(0.1)"
LOG_FILE, DIVERGED_FILE = "log.txt", "diverged.txt"
DIVERGED = "training has diverged"  # train.py's words


@dataclass(frozen=True, slots=True)
class Row:
    """A network.

    Attributes:
        name: in the table.
        rep_block: block family.
        scales_of: the row whose run of the same seed found its scales.
        activation: of the convolutions; empty for the yaml's.
        cfg: model yaml.
        starts: from which it is trained.
        teacher: checkpoint that it learns from, beside the labels.
    """

    name: str
    rep_block: str
    scales_of: str = ""
    activation: str = ""
    cfg: str = "yolov5n.yaml"
    starts: tuple[str, ...] = STARTS
    teacher: str = ""

    def taught_by(self, teacher: str) -> Row:
        """The same network, which learns from a teacher too."""
        taught = self.scales_of and with_teacher(self.scales_of)
        return replace(self, name=with_teacher(self.name), teacher=teacher, scales_of=taught)


def with_teacher(name: str) -> str:
    """The name of a row that learns from a teacher."""
    return f"{name}, with teacher"


PLAIN = Row("plain", "none")
# Expanded from trained weights, RepVGG starts as the plain network either way.
ROWS = (
    PLAIN,
    Row("RepVGG, start=plain", "RepVGG(start=plain)"),
    Row("RepVGG, start=paper", "RepVGG(start=paper)", starts=(SCRATCH,)),
    Row("OREPA, start=plain", "OREPA(start=plain)"),
    Row("OREPA, start=paper", "OREPA(start=paper)"),
    Row("OREPAVGG", "OREPAVGG"),
    Row("DBB", "DBB"),
    Row("ACB", "ACB"),
    Row("plain, LeakyReLU", "none", activation=LEAKY),
    Row("RepVGG, LeakyReLU", "RepVGG(start=plain)", activation=LEAKY),
    Row("RepOpt", "RepOpt"),
    Row("LinearAdd", "LinearAdd"),
    Row("RepOpt, searched scales", "RepOpt", scales_of="LinearAdd"),
    Row("OREPA, one scale per branch", "OREPA(start=paper, scaling=scalar)"),
    Row("OREPA, no scales", "OREPA(start=paper, scaling=none)"),
    Row("OREPA, no norm after the sum", "OREPA(start=paper, post_bn=false)"),
    Row("ACB without 1x3", "ACB(horizontal=false)"),
    Row("ACB without 3x1", "ACB(vertical=false)"),
    Row("ACB without branch norms", "ACB(branch_bn=false)"),
    Row("straight, plain", "none", cfg=STRAIGHT, starts=(SCRATCH,)),
    Row("straight, OREPA", "OREPA(start=plain)", cfg=STRAIGHT, starts=(SCRATCH,)),
    Row("straight, OREPAVGG", "OREPAVGG", cfg=STRAIGHT, starts=(SCRATCH,)),
)


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is learned.

    Attributes:
        title: for the report.
        write: makes the data yaml in a folder, from the shared one.
    """

    title: str
    write: Callable[[Path, Path], Path]


DATA_SETS = {
    "voc07": DataSet(
        "VOC 2007, 2500 images of 20 classes, 1000 for validation; boxes marked difficult are "
        "ignored, or counted in the column that says so", voc_yaml_without_difficult,
    ),
    "bccd": DataSet("blood cells, 205 images of 3 classes, 87 for validation", bccd_yaml),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """Where data and runs are, how long and large a run is, and how it is computed.

    Attributes:
        start: one of STARTS.
        eval_interval: epochs from one evaluation to the next.
        device: as train.py takes it.
        threads: of the processor for each run, and as many that load images.
    """

    shared: Path
    runs: Path
    epochs: int
    image_size: int
    data_name: str = "voc07"
    batch_size: int = 16
    amp: str = "off"
    start: str = SCRATCH
    eval_interval: int = 1
    device: str = "cpu"
    threads: int = 1

    @property
    def data_set(self) -> DataSet:
        """What is learned."""
        return DATA_SETS[self.data_name]

    def data(self) -> Path:
        """The data yaml, written."""
        return self.data_set.write(self.shared, self.runs)

    def folder(self, row: Row, seed: int) -> Path:
        """The folder of a run."""
        row_name = row.name.replace(",", "").replace(" ", "_")
        start = "" if self.start == SCRATCH else f"from_{Path(self.start).stem}_"
        kind = "" if self.amp == "off" else f"_{self.amp}"
        size = f"{self.image_size}px_{self.epochs}epochs_batch{self.batch_size}"
        every = "" if self.eval_interval == 1 else f"_every{self.eval_interval}"
        name = f"{self.data_name}_{start}{row_name}_{size}{kind}{every}_seed{seed}"
        return self.runs / name


@dataclass(frozen=True, slots=True)
class BlockRun:
    """One row trained with one seed, then evaluated: a job of `run_queue`.

    Attributes:
        needs: the run that finds its scales, if there is one.
    """

    setting: Setting
    row: Row
    seed: int
    data: Path
    hyp: Path
    needs: tuple[BlockRun, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.setting.folder(self.row, self.seed)

    @property
    def name(self) -> str:
        """For messages."""
        return self.folder.name

    def is_trained(self) -> bool:
        """Whether all epochs have ended."""
        epochs = epochs_of(self.folder)
        finished = bool(epochs) and epochs[-1]["epoch"] + 1 == self.setting.epochs
        return finished or (self.folder / "report.json").exists()

    def is_finished(self) -> bool:
        """Whether it is trained and evaluated, or diverged."""
        if (self.folder / DIVERGED_FILE).exists():
            return True
        return self.is_trained() and all(
            (self.folder / name).exists() for name in (FIGURES_FILE, DRAWS_FILE)
        )

    def advance(self, deadline: Deadline) -> None:
        """Train and evaluate, in processes of their own, as far as the time goes.

        Raises:
            subprocess.CalledProcessError: one of them failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.is_trained():
            note_commit(self.folder)
            self.train(deadline)
        if self.is_trained() and not self.is_finished():
            self.program(*self._evaluation()).run(deadline)

    def train(self, deadline: Deadline) -> None:
        """Train or go on, until the deadline at the latest.

        Raises:
            subprocess.CalledProcessError: it failed for another reason than having diverged.
        """
        last = self.folder / "weights" / "last.pt"
        if last.exists():
            flags: tuple[str, ...] = ("--resume", str(last))
        else:  # cut off in the first epoch
            flags = self.flags()
            (self.folder / "results.csv").unlink(missing_ok=True)
        command = (sys.executable, "train.py", *flags, *self._how())
        try:
            train_within(self.program(*command), self.folder, self.setting.epochs, deadline)
        except subprocess.CalledProcessError:
            if DIVERGED not in (self.folder / LOG_FILE).read_text(encoding="utf-8")[-2000:]:
                raise
            (self.folder / DIVERGED_FILE).touch()

    def program(self, *command: str, **environment: str) -> Program:
        """A command with the run's number of threads and its log."""
        threads = {"OMP_NUM_THREADS": str(self.setting.threads)}
        return Program(command, {**threads, **environment}, self.folder / LOG_FILE)

    def flags(self) -> tuple[str, ...]:
        """Those of train.py that say what is trained."""
        setting, row = self.setting, self.row
        weights = setting.shared / "weights" / setting.start
        start = () if setting.start == SCRATCH else ("--weights", str(weights))
        activation = ("--activation", row.activation) if row.activation else ()
        taught = ("--teacher", row.teacher) if row.teacher else ()
        scales = [str(need.folder / "weights" / "best.pt") for need in self.needs]
        found = ("--scales", *scales) if scales else ()
        return (
            *("--cfg", row.cfg, "--rep-block", row.rep_block, *start, *activation, *taught, *found),
            *("--data", str(self.data), "--noautoanchor", "--amp", setting.amp),
            *("--hyp", str(self.hyp), "--seed", str(self.seed), "--epochs", str(setting.epochs)),
            *("--imgsz", str(setting.image_size), "--batch-size", str(setting.batch_size)),
            *("--eval-interval", str(setting.eval_interval), "--noplots", "--cache", "ram"),
            *("--project", str(self.folder.parent), "--name", self.folder.name, "--exist-ok"),
        )

    def _how(self) -> tuple[str, ...]:
        """Flags that may change when a run goes on."""
        return (
            *("--workers", str(self.setting.threads), "--device", self.setting.device),
            *("--report", str(self.folder / "report.json")),
        )

    def _evaluation(self) -> tuple[str, ...]:
        setting = self.setting
        return (
            *(sys.executable, "-m", "experiments.run_evaluation", str(self.folder)),
            *("--data", str(self.data), "--imgsz", str(setting.image_size)),
            *("--device", setting.device, "--workers", str(setting.threads)),
        )


def runs_of(setting: Setting, rows: Sequence[Row], seeds: Sequence[int]) -> list[BlockRun]:
    """The runs, all rows with one seed before any with the next; a row's scales are found first.

    Rows that are not trained from the setting's start are skipped.
    """
    data, hyp = setting.data(), write_hyp(setting)
    found: dict[tuple[str, int], BlockRun] = {}
    known = {row.name: row for row in (*ROWS, *rows)}

    def add(row: Row, seed: int) -> BlockRun:
        if (row.name, seed) not in found:
            needs = (add(known[row.scales_of], seed),) if row.scales_of else ()
            found[row.name, seed] = BlockRun(setting, row, seed, data, hyp, needs)
        return found[row.name, seed]

    for seed in seeds:
        for row in rows:
            if setting.start in row.starts:
                add(row, seed)
    return list(found.values())


def write_hyp(setting: Setting) -> Path:
    """Write the shipped hyper-parameters for a step per batch, and a tenth of warm-up at most."""
    path = setting.runs / f"hyp_batch{setting.batch_size}_{setting.epochs}epochs.yaml"
    shipped = read_yaml(find_shipped(HYP, HYPS_FOLDER))
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = {"nbs": setting.batch_size, "warmup_epochs": warmup_epochs(setting)}
    write_yaml(path, {**shipped, **changed})
    return path


def warmup_epochs(setting: Setting) -> float:
    """A tenth of the run, as many as are shipped at most."""
    return min(WARMUP_EPOCHS, setting.epochs / 10)
