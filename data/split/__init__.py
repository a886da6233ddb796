"""Writes a split of a data set that has none: `python -m data.split my.yaml`."""
