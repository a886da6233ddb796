"""Re-parameterizable blocks: several branches in train form, one convolution in deploy form."""
