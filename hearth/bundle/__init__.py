"""The bundle folder: its manifest, its weight files, and the checkpoints that come back."""
