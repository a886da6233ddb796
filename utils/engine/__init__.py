"""Training and evaluation loops over objects handed in."""
