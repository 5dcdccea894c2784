"""Serve an exported ONNX file over HTTP. Importing this imports no JAX, and serving needs none."""
