"""The deraining systems of the paper's Table 1."""
