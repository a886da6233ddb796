"""The detector: model yamls, layers, head, box coder."""
