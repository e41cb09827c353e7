"""Training data and figures of the models that ship."""
