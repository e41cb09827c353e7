"""Tests with BasicSR's own pipeline, for those who have BasicSR from PyPI and no checkout.

    python scripts/test.py -opt options/derain_test.yml

The same arguments as BasicSR's basicsr/test.py; results/ come to lie in the current folder
(`python -m basicsr.test` of an installed BasicSR writes them into site-packages).
"""

from __future__ import annotations

import os

from c2fdft_arch import autoload

autoload.install()

from basicsr.test import test_pipeline  # noqa: E402

if __name__ == '__main__':
    test_pipeline(os.getcwd())
