"""Measurements of the scripts' stages, with repeats; each command writes a dated report."""
