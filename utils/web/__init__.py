"""The page of `detect.py --web`: what is found, live, in a browser; and detection for requests."""
