"""Evidence that takes long: scripts that resume and write dated reports."""
