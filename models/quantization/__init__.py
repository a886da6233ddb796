"""Networks in 8 bits: quantizers, remedies, training on the exported graph."""
