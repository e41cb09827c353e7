"""Places the start-up files and the option files; all else about the package: pyproject.toml."""

from __future__ import annotations

import py_compile
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PLUGIN = ROOT / 'c2fdft_model' / 'plugin'
# The base name sorts after setuptools' `__editable__...pth`, so that an editable install has
# put the project on sys.path by the time the interpreter reads these.
STARTUP_FILES = [PLUGIN / 'c2fdft_autoload.pth', PLUGIN / 'c2fdft_autoload.start']
# What the start-up files import, in every interpreter.
STARTUP_MODULES = [PLUGIN.parent / '__init__.py', PLUGIN / '__init__.py', PLUGIN / 'autoload.py']


class BuildPy(build_py):
    """Also puts the start-up files beside the packages and the option files inside one.

    A wheel gets both through `build_lib`. An editable wheel ignores `build_lib`, so the start-up
    files go where its own `.pth` goes, and the option files are read from the source tree.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            site_packages = Path(self.distribution.get_command_obj('install').install_lib)
            # Where writing bytecode is off, each interpreter would compile these anew.
            for module in STARTUP_MODULES:
                py_compile.compile(str(module))
        else:
            site_packages = Path(self.build_lib)
            options = site_packages / PLUGIN.relative_to(ROOT) / 'options'
            shutil.copytree(ROOT / 'options', options, dirs_exist_ok=True)
        for path in STARTUP_FILES:
            self.copy_file(str(path), str(site_packages / path.name))


setup(
    # How a licence is written in pyproject.toml depends on the version of setuptools.
    license='Apache-2.0',
    license_files=['LICENSE'],
    cmdclass={'build_py': BuildPy},
)
