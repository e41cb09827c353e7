"""Tests with BasicSR's own pipeline, for those who have BasicSR from PyPI and no checkout.

    python scripts/test.py -opt options/derain_test.yml

The same arguments as BasicSR's basicsr/test.py; results/ is written into the current folder
(`python -m basicsr.test` of an installed BasicSR writes them into site-packages).
"""

import os

from c2fdft_model.plugin import autoload


def main() -> int:
    """Run BasicSR's pipeline on the command line's arguments; the exit code is 0 if it ended."""
    autoload.install()
    from basicsr.test import test_pipeline

    test_pipeline(os.getcwd())
    return 0
