"""From a traced JAX function to an ONNX model: a walk over its operations (`walk`), then a simplification."""
