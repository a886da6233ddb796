"""Running a network from a file: the Runner protocol and the decoding of every head."""
