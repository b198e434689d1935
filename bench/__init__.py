"""The measurements behind every figure in the documentation; see `python -m bench --help`."""
