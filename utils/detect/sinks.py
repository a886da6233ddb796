"""The data that a detection run writes: labels, tables and crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from utils.detect.crops import Crops
from utils.detect.output_options import OutputOptions, Sink
from utils.detect.tables import CountTable, CsvTable, JsonLines, JsonTable, LabelFiles
from utils.growing_file import GrowingFile
from utils.output_files import STANDARD_OUTPUT


def opened_sinks(
    folder: Path,
    options: OutputOptions,
    class_names: Sequence[str],
    open_table: Callable[[Path], GrowingFile],
    is_taken: Callable[[str], bool],
) -> list[Sink]:
    """What `options` asks for, in the order in which each frame is written.

    Args:
        folder: where everything goes.
        options: what is written.
        class_names: name of each class id.
        open_table: a new file, or that of a cut run.
        is_taken: whether a stem is that of another file's outputs.
    """
    sinks: list[Sink] = []
    if options.labels:
        labels = LabelFiles(folder / "labels", options.label_scores, options.label_corners)
        sinks.append(labels)
    sinks += [table(open_table(path), class_names) for path, table in _tables(folder, options)]
    if options.crops:
        sinks.append(Crops(folder / "crops", class_names, is_taken))
    return sinks


def _tables(
    folder: Path, options: OutputOptions
) -> Iterator[tuple[Path, Callable[[GrowingFile, Sequence[str]], Sink]]]:
    if options.csv:
        yield folder / "predictions.csv", partial(CsvTable, with_tracks=options.tracks)
    if options.json:
        yield folder / "predictions.json", JsonTable
    if options.counts:
        yield folder / "counts.csv", CountTable
    if options.json_lines is not None:
        path = Path(options.json_lines)
        yield (path if path == STANDARD_OUTPUT else folder / path), JsonLines
