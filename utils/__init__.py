"""What models, data and the scripts all need; imports neither of them."""
