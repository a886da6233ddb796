"""Train form to deploy form and back, with the equivalence check."""
