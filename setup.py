from __future__ import annotations

import py_compile
import re
import shutil
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
PACKAGES = find_packages(ROOT, include=['c2fdft_arch*', 'c2fdft_model*'])
# The base name sorts after setuptools' `__editable__...pth`, so that an editable install has
# put the project on sys.path by the time the interpreter reads these.
STARTUP_FILES = ['c2fdft_autoload.pth', 'c2fdft_autoload.start']
# What the start-up files import, in every interpreter.
STARTUP_MODULES = ['__init__.py', 'plugin/__init__.py', 'plugin/autoload.py']

INSTALL_REQUIRES = [
    'basicsr>=1.4.2',
    'torch>=2.1',
    'torchvision',
    'numpy',
    'lmdb',
    'opencv-python',
    'pyyaml',
    'addict',
    'tb-nightly',
    'pytorch-msssim',
    'scikit-image',
    'scipy',
    'tifffile',
    'pillow',
    'tqdm',
    'setuptools',  # BasicSR imports distutils, which Python 3.12 dropped and setuptools carries
]
EXTRAS_REQUIRE = {
    'metrics': ['lpips'],
    'iqa': ['pyiqa'],
    'plot': ['matplotlib'],
    'baselines': ['spandrel', 'spandrel-extra-arches'],
    'export': ['onnx', 'onnxscript', 'onnxruntime'],
    'mat': ['h5py'],
    'dev': ['pytest', 'pytest-xdist', 'ruff', 'mypy', 'setuptools>=64', 'wheel'],
}


def version() -> str:
    text = (ROOT / 'c2fdft_arch' / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError('c2fdft_arch/__init__.py does not state __version__')
    return found.group(1)


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
            # Where writing bytecode is off, each interpreter would compile these two anew.
            for name in STARTUP_MODULES:
                py_compile.compile(str(ROOT / 'c2fdft_model' / name))

    def files_to_place(self) -> list[tuple[Path, Path]]:
        startup = [ROOT / 'c2fdft_model' / 'plugin' / name for name in STARTUP_FILES]
        if self.editable_mode:
            unpacked_wheel = Path(self.distribution.get_command_obj('install').install_lib)
            return [(path, unpacked_wheel / path.name) for path in startup]
        library = Path(self.build_lib)
        options = sorted((ROOT / 'options').rglob('*.yml'))
        return [(path, library / path.name) for path in startup] + [
            (path, library / 'c2fdft_model' / 'plugin' / path.relative_to(ROOT)) for path in options
        ]

    def get_source_files(self) -> list[str]:
        options = sorted((ROOT / 'options').rglob('*.yml'))
        startup = [ROOT / 'c2fdft_model' / 'plugin' / name for name in STARTUP_FILES]
        return [path.relative_to(ROOT).as_posix() for path in startup + options]

    def get_outputs(self) -> list[str]:
        return [] if self.editable_mode else [str(out) for _, out in self.files_to_place()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    """setuptools' `build` with one more step."""

    sub_commands = [*build.sub_commands, ('build_startup', None)]


setup(
    name='c2fdft',
    version=version(),
    description='C2F-DFT, a coarse-to-fine diffusion Transformer for image restoration, in BasicSR',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8')
    if (ROOT / 'README.md').exists()
    else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10',
    packages=PACKAGES,
    # With package_dir stated, an editable install is one line on sys.path; without it setuptools
    # installs an import finder that every interpreter start pays for.
    package_dir={'': '.'},
    include_package_data=False,
    package_data={'c2fdft_arch.native': ['csrc/*.h', 'csrc/*.cpp']},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    cmdclass={'build': Build, 'build_startup': BuildStartup},
    zip_safe=False,
    classifiers=[
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
)
