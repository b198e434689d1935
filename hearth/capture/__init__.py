"""Capture: from a function of torch tensors to a flat ATen graph with a symbolic batch size."""
