"""Exported files: writing, checking and running them."""
