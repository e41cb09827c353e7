"""Kernels for CPUs, in C++: compiled when they are first needed, for the machine they run on.

`build` finds or compiles the library, by `compiler`, and keeps it in the folders of `cache`;
`bindings` holds its functions, `structures` and `arguments` what they take, `layout` how images
are cut into tiles. The sources in `csrc` include one another only
downwards:

    vectors -> formats -> packing -> microkernel -> sums        numbers, products, sums over pixels
    features -> norm                                            feature maps, layer norm
    depthwise -> attention -> attention_matrices_gradient -> attention_gradient
    feed_forward -> block
    convolution -> convolution_gradient
    kernels.cpp                                                 what Python calls
"""
