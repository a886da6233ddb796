"""Long experiments: scripts that resume and write dated reports into docs/benchmarks."""
