"""Says what is wrong with option files, without starting anything: `c2fdft options --check`."""

import sys
from collections.abc import Sequence

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.options.checking import check_options, concerns_us
from c2fdft_model.options.reading import read_option_file
from c2fdft_model.plugin import autoload
from c2fdft_model.plugin.patches.option_check import registries


def main(argv: Sequence[str]) -> int:
    """Check files, each a line or more; 0 if all are right, 1 if not, 2 if none could be read.

    A file with `train` among its `datasets` is checked as that of a training, others as of a test.
    What depends on a machine (data, CUDA, memory) is not looked at.
    """
    autoload.install()
    codes = [_check(path) for path in argv]
    return 2 if set(codes) == {2} else int(any(codes))


def _check(path: str) -> int:
    try:
        opt = read_option_file(path)
    except OptionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    if not concerns_us(opt):
        print(f'{path}: has neither C2FDFTModel nor PatchCyclePairedDataset; it is not checked.')
        return 0
    try:
        is_train = 'train' in (opt.get('datasets') or {})
        warnings = check_options(opt, is_train, registries(opt)).warnings
    except OptionError as error:
        for line in str(error).splitlines():
            print(f'{path}: {line}', file=sys.stderr)
        return 1
    for line in warnings:
        print(f'{path}: warning: {line}')
    print(f'{path}: every key and value can be.')
    return 0
