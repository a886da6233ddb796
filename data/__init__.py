"""From image and label files to batches."""
