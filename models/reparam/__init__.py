"""Blocks with many branches while they train and one convolution when they run."""
