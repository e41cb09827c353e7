"""Places the start-up files and the option files; all else about the package: pyproject.toml."""

from __future__ import annotations

import py_compile
import shutil
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
PLUGIN = ROOT / 'c2fdft_model' / 'plugin'
# The base name sorts after setuptools' `__editable__...pth`, so that an editable install has
# put the project on sys.path by the time the interpreter reads these.
STARTUP_FILES = [PLUGIN / 'c2fdft_autoload.pth', PLUGIN / 'c2fdft_autoload.start']
# What the start-up files import, in every interpreter.
STARTUP_MODULES = [PLUGIN.parent / '__init__.py', PLUGIN / '__init__.py', PLUGIN / 'autoload.py']
OPTION_FILES = sorted((ROOT / 'options').rglob('*.yml'))


class BuildStartup(Command):
    """Put the start-up files beside the packages and the option files inside one.

    A wheel gets both through `build_lib`. An editable wheel ignores `build_lib`, so the start-up
    files go where its own `.pth` goes, and the option files are read from the source tree.
    """

    description = 'place the interpreter start-up files and the option files'
    user_options: list = []

    def initialize_options(self) -> None:
        self.build_lib = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options('build', ('build_lib', 'build_lib'))

    def run(self) -> None:
        for source, target in self.files_to_place():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        if self.editable_mode:
            # Where writing bytecode is off, each interpreter would compile these anew.
            for module in STARTUP_MODULES:
                py_compile.compile(str(module))

    def files_to_place(self) -> list[tuple[Path, Path]]:
        if self.editable_mode:
            unpacked_wheel = Path(self.distribution.get_command_obj('install').install_lib)
            return [(path, unpacked_wheel / path.name) for path in STARTUP_FILES]
        library = Path(self.build_lib)
        plugin = library / PLUGIN.relative_to(ROOT)
        return [(path, library / path.name) for path in STARTUP_FILES] + [
            (path, plugin / path.relative_to(ROOT)) for path in OPTION_FILES
        ]

    def get_source_files(self) -> list[str]:
        return [path.relative_to(ROOT).as_posix() for path in STARTUP_FILES + OPTION_FILES]

    def get_outputs(self) -> list[str]:
        return [] if self.editable_mode else [str(out) for _, out in self.files_to_place()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    """setuptools' `build` with one more step."""

    sub_commands = [*build.sub_commands, ('build_startup', None)]


setup(
    # How a licence is written in pyproject.toml depends on the version of setuptools.
    license='Apache-2.0',
    license_files=['LICENSE'],
    cmdclass={'build': Build, 'build_startup': BuildStartup},
)
