"""Trains with BasicSR's own pipeline, for those who have BasicSR from PyPI and no checkout.

    python scripts/train.py -opt options/derain_fine.yml

The same arguments as BasicSR's basicsr/train.py; experiments/ and tb_logger/ come to lie in the
current folder (`python -m basicsr.train` of an installed BasicSR writes them into site-packages).
"""

from __future__ import annotations

import os

from c2fdft_arch import autoload

autoload.install()

from basicsr.train import train_pipeline  # noqa: E402

if __name__ == '__main__':
    train_pipeline(os.getcwd())
