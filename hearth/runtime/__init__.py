"""Runs a bundle from Python: NumPy, wasmtime, wgpu, or a real browser, behind one protocol."""
