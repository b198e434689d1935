"""Lowering: from the ATen operations of a captured program to our tensor graph."""
