"""Kernels for GPUs in Triton, which CUDA builds of PyTorch bring: what is between matrix products.

Feature maps are channels-last, (B, pixels, C), with the pixels of an image in rows of `width`. Each
module holds kernels and the functions that launch them. What is called `dtype` is that of matrix
products; sums, norms and what the blocks add to are in float32.
"""
