"""Trained weights on their way to where they are used: ONNX, fewer bytes, and what that costs."""
