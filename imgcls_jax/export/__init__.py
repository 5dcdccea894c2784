"""Trained models as files for other programs: ONNX, StableHLO, torch, safetensors; and how such a file is verified."""
