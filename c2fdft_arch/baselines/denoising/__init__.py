"""The denoising systems of the paper's Table 3."""
