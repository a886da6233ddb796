"""Batches to detections with an exported file."""

from __future__ import annotations

import time

from models.runtimes.runner import Runner
from utils.engine.predictor import BatchPrediction, StageTimes
from utils.letterbox import scale_pixels
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import Batch


class RunnerPredictor:
    """Runs a file on batches; everything after the file is numpy."""

    def __init__(self, runner: Runner, config: PostprocessConfig) -> None:
        self.runner = runner
        self.config = config

    def __call__(self, batch: Batch) -> BatchPrediction:
        """The detections of a batch of uint8 images."""
        start = time.perf_counter()
        images = scale_pixels(batch.images.numpy())
        prepared = time.perf_counter()
        decoded = self.runner.run(images)
        inferred = time.perf_counter()
        detections = [postprocess(image, self.config) for image in decoded]
        done = time.perf_counter()
        seconds = StageTimes(prepared - start, inferred - prepared, done - inferred)
        return BatchPrediction(detections, seconds)
