"""The deblurring systems of the paper's Table 2."""
