"""BasicSR imports `distutils`, which Python 3.12 removed."""

import importlib
import importlib.util

from c2fdft_model.plugin.patches.patch import patch


@patch(fault='imports distutils, removed in Python 3.12', upstream='PEP 632')
def provide_distutils() -> bool:
    """Let setuptools put its copy of distutils in place, if nothing has done so yet."""
    if importlib.util.find_spec('distutils') is not None:
        return False
    importlib.import_module('setuptools')
    return True
