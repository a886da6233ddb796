"""From picture and label files to batches."""
