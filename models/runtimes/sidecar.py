"""The JSON file beside networks whose own format has no room for metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.runtimes.file_metadata import FileMetadata
from models.runtimes.heads import Heads
from models.runtimes.network_metadata import NetworkMetadata
from utils.errors import CheckpointError

METADATA = "metadata.json"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What it says of a network that takes one image and answers with maps out0, out1, ...

    Attributes:
        texts: key -> JSON text.
        class_names: name of each class.
        stride: height and width of the input are multiples of this.
        input_hw: height and width of the input; None where not said.
        heads: decodes the maps.
    """

    texts: Mapping[str, str]
    class_names: tuple[str, ...]
    stride: int
    input_hw: tuple[int | None, int | None]
    heads: Heads

    @property
    def known_hw(self) -> tuple[int, int] | None:
        """Height and width of the input; None where not said."""
        height, width = self.input_hw
        return None if height is None or width is None else (height, width)

    @classmethod
    def read(cls, folder: Path) -> Sidecar:
        """Read it from a folder.

        Raises:
            CheckpointError: it is not there, or cannot be understood.
        """
        texts = read_metadata(folder / METADATA)
        metadata = NetworkMetadata.from_texts(folder, texts)
        input_hw = metadata.known_hw or (None, None)
        names = [f"out{level}" for level in range(len(metadata.strides))]
        heads = Heads.choose(folder, [(name, (1, None, None, None)) for name in names], metadata)
        return cls(texts, metadata.class_names, metadata.stride, input_hw, heads)


def write_metadata(folder: Path, metadata: FileMetadata) -> None:
    """Write the file that `Sidecar.read` reads."""
    text = json.dumps(metadata.as_values(), indent=1)
    (folder / METADATA).write_text(text + "\n", encoding="utf-8")


def read_metadata(file: Path) -> dict[str, str]:
    """Key -> JSON text.

    Raises:
        CheckpointError: it is not there, or not JSON.
    """
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file; export the checkpoint again") from None
    except ValueError as error:
        raise CheckpointError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds {type(content).__name__}, expected keys and values")
    return {key: json.dumps(value) for key, value in content.items()}
