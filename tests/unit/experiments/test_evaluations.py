"""The report on published networks: its commands and tables."""

from __future__ import annotations

from data.dataset_spec import check_data_yaml
from experiments.evaluations import FIGURES, PUBLISHED, SHIPPED, report_of, write_data_yamls


def test_every_row_has_a_result_and_a_file_of_its_own():
    rows = [*PUBLISHED, *SHIPPED]
    assert len({row.command() for row in rows}) == len(rows)  # results are kept by it
    written = [row.evaluated for row in rows if row.export]
    assert len(set(written)) == len(written) == 6


def test_the_file_that_is_evaluated_is_the_one_that_is_written():
    for row in SHIPPED:
        (file,) = row.evaluated
        assert row.command().endswith(f"--weights {file}{f' {row.flags}' if row.flags else ''}")
        assert row.export_command().endswith(f"--output {file}") == bool(row.export)


def test_data_yamls_are_right(tmp_path):
    for name in ("coco128/images/train2017", "deeppcb", "bccd/JPEGImages", "bccd/Annotations"):
        (tmp_path / "data" / name).mkdir(parents=True)
    write_data_yamls(tmp_path, tmp_path)
    for row in (*PUBLISHED, *SHIPPED):
        check_data_yaml(tmp_path / f"{row.data}.yaml")


def test_tables_and_classes():
    found = {**dict.fromkeys(FIGURES, 0.25), "images": 87, "AP_large": None,
             "per_class": [{"name": "RBC", "AP": 0.5}, {"name": "WBC", "AP": None}]}  # fmt: skip
    text = report_of([(PUBLISHED[0], found)], [(SHIPPED[-1], found)], "2026-01-01")
    cells = "| 87 | 0.250 | 0.250 | 0.250 | 0.250 | - |"
    assert f"| `{PUBLISHED[0].command()}` {cells}" in text
    assert f"- `{SHIPPED[-1].command()}`: RBC 0.500, WBC -." in text
    assert SHIPPED[-1].export_command() in text
