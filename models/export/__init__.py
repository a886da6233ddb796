"""Writing a network for a runtime, and checking what was written."""
