"""What tests of the kernels in C++ share."""

from __future__ import annotations

import pytest
import torch

from c2fdft_arch.native.build import compiled_library

CPU = torch.device('cpu')
PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16}

needs_kernels = pytest.mark.skipif(
    compiled_library()[0] is None,
    reason=f'no kernels here: {compiled_library()[1]}',
)
