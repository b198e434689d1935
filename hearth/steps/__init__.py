"""Steps: a model, a loss and an optimizer as pure functions, captured as ATen graphs."""
