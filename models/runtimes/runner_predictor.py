"""Batches to detections with an exported file."""

from __future__ import annotations

import time

from models.runtimes.runner import Runner
from utils.batches import ArrayBatch
from utils.engine.predictor import BatchPrediction, StageTimes
from utils.letterbox import network_input
from utils.postprocess import PostprocessConfig, postprocess


class RunnerPredictor:
    """Runs a file on batches; everything before and after the file is numpy."""

    def __init__(self, runner: Runner, config: PostprocessConfig) -> None:
        self.runner = runner
        self.config = config

    def __call__(self, batch: ArrayBatch) -> BatchPrediction:
        """The detections of a batch of uint8 images."""
        start = time.perf_counter()
        images = network_input([sample.image for sample in batch.samples])
        prepared = time.perf_counter()
        decoded = self.runner.run(images)
        inferred = time.perf_counter()
        detections = [postprocess(image, self.config) for image in decoded]
        done = time.perf_counter()
        seconds = StageTimes(prepared - start, inferred - prepared, done - inferred)
        return BatchPrediction(detections, seconds)
