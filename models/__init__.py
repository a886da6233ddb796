"""The network: layers, re-parameterizable blocks, loss, and what makes boxes of its output."""
