"""Coarse-to-fine diffusion training, sampling, data and protocols of C2F-DFT."""
