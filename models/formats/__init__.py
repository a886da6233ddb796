"""One module per exported format."""
