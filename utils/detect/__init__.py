"""What detect.py reads, shows and writes; none of it needs torch."""
