"""Networks in 8 bits: quantizers, quantization techniques, training on the exported graph."""
