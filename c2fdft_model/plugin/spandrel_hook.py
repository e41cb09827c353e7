"""What the hook of `autoload` does around `import spandrel`: make the weights of DFT known to it.

Standard library only, until spandrel is being imported.
"""

import importlib
import sys
import warnings

SPANDREL = 'spandrel'
SUPPORT = 'c2fdft_model.plugin.spandrel_support'


def find_spec(hook, path=None, target=None):
    """The spec of `spandrel` from the finders other than `hook`; loading it registers DFT."""
    others = [finder for finder in sys.meta_path if finder is not hook]
    specs = (f.find_spec(SPANDREL, path, target) for f in others if hasattr(f, 'find_spec'))
    spec = next((spec for spec in specs if spec is not None), None)
    # Without an origin it is any folder of that name.
    if spec is None or spec.origin is None or spec.loader is None:
        return spec
    exec_module = spec.loader.exec_module

    def exec_module_and_register(module):
        exec_module(module)
        if module.__name__ == SPANDREL:
            add_dft()

    spec.loader.exec_module = exec_module_and_register  # type: ignore[method-assign]
    return spec


def add_dft():
    """Add DFT to spandrel's registry; a failure is one warning, and spandrel is as it was."""
    try:
        importlib.import_module(SUPPORT).add_dft()
    except Exception as error:
        text = (
            f'c2fdft could not add itself to spandrel: {type(error).__name__}: {error}; '
            'C2FDFT_AUTOLOAD=0 in the environment switches c2fdft off.'
        )
        try:
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        except RuntimeWarning:  # warnings are errors here, but spandrel must import all the same
            print(f'RuntimeWarning: {text}', file=sys.stderr)
