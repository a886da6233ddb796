"""Checks a data set before training on it: `python -m data.lint my.yaml`."""
