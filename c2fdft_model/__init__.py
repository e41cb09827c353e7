"""Coarse-to-fine diffusion training, sampling, data and protocols of C2F-DFT (Wang et al.).

The reference stands in `c2fdft_arch`. Every interpreter imports this file when it starts.
"""
