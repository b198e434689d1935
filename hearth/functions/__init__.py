"""Numerical functions in plain PyTorch, written to be compiled with `hearth.compile_function`.

They import nothing of Hearth and run in eager PyTorch as they are.  Dimension 0 is the batch of
points or images, shapes never depend on values, and random numbers come from `torch.rand` and
`torch.randn` inside, so that a compiled function draws the same ones on every device.
"""
