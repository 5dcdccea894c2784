"""Serve an exported file over HTTP. Importing this imports no JAX, and serving an ONNX file needs none."""
