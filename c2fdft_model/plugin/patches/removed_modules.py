"""BasicSR imports modules that torchvision and Python have removed."""

import importlib
import importlib.util
import sys
import types

from c2fdft_model.plugin.patches.patch import MASTER, patch

NAME = 'torchvision.transforms.functional_tensor'


@patch(
    fault=f'imports {NAME}, removed in torchvision 0.17',
    upstream='BasicSR #663',
    fixed_in=MASTER,
)
def provide_functional_tensor() -> bool:
    """Provide the removed module, with the one function that BasicSR takes from it."""
    try:
        if NAME in sys.modules or importlib.util.find_spec(NAME) is not None:
            return False
        from torchvision.transforms.functional import rgb_to_grayscale
    except ModuleNotFoundError:  # no torchvision: the error of BasicSR's own import is clearer
        return False
    module = types.ModuleType(NAME, 'The part of the removed module that BasicSR 1.4.2 imports.')
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[NAME] = module
    return True


@patch(fault='imports distutils, removed in Python 3.12', upstream='PEP 632')
def provide_distutils() -> bool:
    """Let setuptools put its copy of distutils in place, if nothing has done so yet."""
    if importlib.util.find_spec('distutils') is not None:
        return False
    importlib.import_module('setuptools')
    return True
