"""Tests with BasicSR's own pipeline, for those who have BasicSR from PyPI and no checkout.

    c2fdft test -opt options/derain_test.yml

The same arguments as BasicSR's basicsr/test.py; results/ is written into the current folder
(`python -m basicsr.test` of an installed BasicSR writes them into site-packages). Ends with 0 if
every data set was tested, 1 if something stopped it, 2 if it could not start.
"""

from collections.abc import Sequence

from c2fdft_model.commands.basicsr_pipeline import run_pipeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Test; the exit code is 0, 1 or 2 as the module says."""
    return run_pipeline('test', __doc__, arguments)
