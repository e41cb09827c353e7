"""The network with gradients: autograd functions by PyTorch or by the kernels in C++."""
