"""Figures of the pages that stand in no report, each with the reason; translations share them."""

from __future__ import annotations

LIMIT = "a limit or a default of the program, which its --help or its tests name"
VERSION = "a version"
PRINTED = "an example of what the command above it prints"
TRAINED = "printed when the weights that ship were made, on another machine"
DATA = "a property of somebody else's data or file"
# English page -> figure, as it is written there -> the reason.
KNOWN: dict[str, dict[str, str]] = {
    "CHANGELOG.md": {
        "2 %": LIMIT,
        "1e-12": "tests/unit/utils/metrics assert it",
        "10 points": LIMIT,
        "95 %": "what the interval covers",
        "0.50": "`make demo` fails below it",
    },
    "CONTRIBUTING.md": {
        "6 minutes": "about; `make docs-check` prints its time",
    },
    "README.md": {
        "1.76 million": "tests/end_to_end/test_shipped_weights.py counts them in the file",
        "1e-12": "tests/block_equivalence.py and tests/unit/utils/metrics assert it",
    },
    "docs/benchmarks/README.md": {
        "8 minutes": LIMIT,
    },
    "docs/blocks.md": {
        "4.4": "a section of an article",
    },
    "docs/claims.md": {
        "5,000": DATA,
        "64,115": DATA,
        "118,287": DATA,
    },
    "docs/comparison.md": {
        "1,920 px": LIMIT,
        "0.9": LIMIT,
        "0.05": LIMIT,
        "0.5": LIMIT,
    },
    "docs/conversion.md": {
        "10 pixels": LIMIT,
        "1e-12": LIMIT,
        "1e-10": LIMIT,
        "1e-5": LIMIT,
        "1e-15": "float64 itself",
        "0.02": LIMIT,
        "1.6e-15": PRINTED,
        "3.1e-15": PRINTED,
        "7.6e-07": PRINTED,
        "3,206,248 parameters": PRINTED,
        "1,763,224": PRINTED,
        "2.04 GFLOPs": PRINTED,
        "1.03": PRINTED,
        "2.0e-16": PRINTED,
        "6.5": PRINTED,
    },
    "docs/data.md": {
        "1 %": LIMIT,
        "179 million": LIMIT,
    },
    "docs/deploy.md": {
        "95 %": "what the interval covers",
        "1e-5": "tests/end_to_end/test_foreign_programs.py asserts it",
        "4.6": VERSION,
        "3.12": VERSION,
    },
    "docs/detection.md": {
        "10 ms": "what browsers do",
        "100 ms": "what browsers do",
        "0.83": "a size of YOLOv5's test-time augmentation",
    },
    "docs/tracking.md": {
        "0.31": VERSION,
        "0.1": LIMIT,
    },
    "docs/training.md": {
        "0.25": LIMIT,
        "0.45": LIMIT,
        "4,000": LIMIT,
        "30 %": LIMIT,
        "100 times": "the argument of the command above it",
    },
    "models/weights/README.md": {
        "1.77 million": "tests/end_to_end/test_shipped_weights.py counts them in the file",
        "1.76 million": "tests/end_to_end/test_shipped_weights.py counts them in the file",
        "1.64 GFLOPs": PRINTED,
        "1.03 GFLOPs": PRINTED,
        "0.405": TRAINED,
        "2.9e-15": TRAINED,
        "3.7e-03": TRAINED,
        "4.5e-15": TRAINED,
        "1.8e-03": TRAINED,
        "3,140": DATA,
        "1,137": DATA,
        "98.6 %": DATA,
    },
    "docs/web.md": {
        "10 s": LIMIT,
        "32 MB": LIMIT,
        "50 million": LIMIT,
    },
}
