"""What was found in one image, as other programs want it. pandas and supervision are optional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utils.detect_config import DetectConfig
from utils.errors import MissingPackageError
from utils.flag_values import check_values
from utils.structures import Detections, FloatArray, Frame, ImageArray, IntArray

if TYPE_CHECKING:
    import pandas
    import supervision


@dataclass(frozen=True, slots=True, eq=False)
class FrameDetections:
    """The objects in one image, best score first; equal to itself alone.

    Attributes:
        frame: the image and where it comes from.
        detections: boxes in pixels of that image.
        class_names: name of each class id of the network.
    """

    frame: Frame
    detections: Detections
    class_names: tuple[str, ...]

    @property
    def image(self) -> ImageArray:
        """(H, W, 3) uint8 RGB, whatever it was made from."""
        return self.frame.image

    @property
    def boxes(self) -> FloatArray:
        """(N, 4) float32: left, top, right, bottom in pixels of the image."""
        return self.detections.boxes

    @property
    def scores(self) -> FloatArray:
        """(N,) float32 in 0-1."""
        return self.detections.scores

    @property
    def class_ids(self) -> IntArray:
        """(N,) int64."""
        return self.detections.class_ids

    @property
    def names(self) -> tuple[str, ...]:
        """(N,) the class name of each detection."""
        return tuple(self.class_names[each] for each in self.class_ids)

    def __len__(self) -> int:
        """The number of detections."""
        return len(self.detections)

    def draw(
        self,
        *,
        line_thickness: int | None = None,
        hide_labels: bool = False,
        hide_scores: bool = False,
    ) -> ImageArray:
        """A copy of the image with boxes and names on it, (H, W, 3) uint8 RGB.

        Raises:
            ConfigError: a value that the flag of its name does not take.
        """
        from utils.draw import draw_detections  # loads Pillow, for the names

        check_values(DetectConfig(
            line_thickness=line_thickness, hide_labels=hide_labels, hide_conf=hide_scores
        ))  # fmt: skip
        return draw_detections(
            self.image,
            self.detections,
            self.class_names,
            line_thickness=line_thickness,
            hide_labels=hide_labels,
            hide_scores=hide_scores,
        )

    def crops(self) -> list[ImageArray]:
        """Each detection cut out with the margin of `--save-crop`, RGB; views of the image."""
        from utils.detect.crops import cut_out

        return cut_out(self.image, self.boxes)

    def to_json(self) -> str:
        """One line: what `--save-jsonl` writes for the image."""
        from utils.detect.tables import frame_json

        return frame_json(self.frame, self.detections, self.class_names)

    def to_pandas(self) -> pandas.DataFrame:
        """YOLOv5's columns: xmin, ymin, xmax, ymax, confidence, class, name.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingPackageError("to_pandas() needs pandas: pip install pandas") from None
        columns = dict(zip(("xmin", "ymin", "xmax", "ymax"), self.boxes.T, strict=True))
        return pandas.DataFrame(
            {
                **columns,
                "confidence": self.scores,
                "class": self.class_ids,
                "name": np.array(self.names, object),
            }
        )

    def to_supervision(self) -> supervision.Detections:
        """With the names as `data["class_name"]`, which its annotators write.

        Raises:
            MissingPackageError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise MissingPackageError(
                "to_supervision() needs supervision: pip install supervision"
            ) from None
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.class_ids,
            data={"class_name": np.array(self.names, str)},
        )
