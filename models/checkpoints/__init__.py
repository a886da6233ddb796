"""Weights files, ours and foreign ones, and the networks they hold."""
