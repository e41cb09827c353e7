"""`python -m c2fdft_arch`: the doctor of the installation, see `c2fdft_model.plugin`."""

import runpy

if __name__ == '__main__':
    runpy.run_module('c2fdft_model.plugin', run_name='__main__')
