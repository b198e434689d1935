"""Random small networks, as PyTorch source, whose gradients are compared with PyTorch's."""
