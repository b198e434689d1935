"""PyTorch's own test databases, `op_db` and `module_db`, run through Hearth.

`cases.py` turns their samples into functions of tensors, `targets.py` runs many of them at once,
`judge.py` compares, `claims.py` says what is claimed and why the rest is not.
"""
