"""A drawn detection data set for the demo and the tests: real enough to learn, not trivial."""
