"""The driver: puts the stages together, from a training step to a bundle."""
