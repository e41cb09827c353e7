"""Trains with BasicSR's own pipeline, for those who have BasicSR from PyPI and no checkout.

    python scripts/train.py -opt options/derain_fine.yml

The same arguments as BasicSR's basicsr/train.py; experiments/ and tb_logger/ are written into the
current folder (`python -m basicsr.train` of an installed BasicSR writes them into site-packages).
"""

import os

from c2fdft_model.plugin import autoload


def main() -> int:
    """Run BasicSR's pipeline on the command line's arguments; the exit code is 0 if it ended."""
    autoload.install()
    from basicsr.train import train_pipeline

    train_pipeline(os.getcwd())
    return 0
