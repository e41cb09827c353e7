"""`python -m c2fdft_arch`: the doctor of the installation, or another command of `c2fdft`."""

import runpy
import sys

if __name__ == '__main__':
    if not sys.argv[1:]:
        sys.argv.append('doctor')
    runpy.run_module('c2fdft_model', run_name='__main__')
