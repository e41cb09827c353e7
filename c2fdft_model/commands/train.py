"""Trains with BasicSR's own pipeline, for those who have BasicSR from PyPI and no checkout.

    c2fdft train -opt options/derain_fine.yml

The same arguments as BasicSR's basicsr/train.py; experiments/ and tb_logger/ are written into the
current folder (`python -m basicsr.train` of an installed BasicSR writes them into site-packages).
Ends with 0 if the training ended, 1 if something stopped it, 2 if it could not start.
"""

from collections.abc import Sequence

from c2fdft_model.commands.basicsr_pipeline import run_pipeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; the exit code is 0, 1 or 2 as the module says."""
    return run_pipeline('train', __doc__, arguments)
