"""Looks at an installation and says what works, what does not, and what to do about it."""

import importlib
import os
import platform
import re
import sys
import textwrap
import warnings
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path

from c2fdft_arch import __version__
from c2fdft_model.plugin import autoload, registration
from c2fdft_model.plugin.option_files import option_folder
from c2fdft_model.plugin.patches import table
from c2fdft_model.plugin.patches.copies import other_copies

STARTUP_FILES = ('c2fdft_autoload.pth', 'c2fdft_autoload.start')
INSTALL = 'install the package: `pip install -e .` in its source tree, or `pip install` its wheel'
TOGETHER = (
    'torch and torchvision do not fit each other; take both from one index in one command: '
    '`pip install --force-reinstall torch torchvision`'
)
# The first pattern that an error's text matches gives the advice.
REMEDIES = (
    (r"No module named 'basicsr'$", 'install BasicSR: `bash scripts/setup_env.sh` does it for any '
     'Python; by hand, after torch: `pip install --no-build-isolation basicsr` (fails on 3.13)'),
    (r"No module named 'basicsr\.version'", 'a BasicSR source tree without its generated '
     'basicsr/version.py comes first on sys.path: run `pip install --no-build-isolation -e .` '
     'in it, or leave that folder'),
    (r"No module named 'torch(vision)?'$", 'install both in one command: '
     '`pip install torch torchvision`'),
    (r'torchvision::nms|undefined symbol', TOGETHER),
    (r'functional_tensor', 'BasicSR 1.4.2 needs a module that torchvision dropped; the hook '
     f'provides it: {INSTALL}'),
    (r'libGL\.so', 'OpenCV wants a display library: `pip install opencv-python-headless` in place '
     'of opencv-python, or install the system package libgl1'),
    (r"No module named 'distutils", 'Python 3.12 dropped distutils: `pip install setuptools`'),
    (r"No module named '([\w.]+)'", r'install what is missing: `pip install \1`'),
)  # fmt: skip


@dataclass
class Report:
    """Lines to print and problems found, each with its remedy."""

    lines: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def say(self, title: str, text: str) -> None:
        self.lines.append(f'{title + ":":<14}{text}')

    def item(self, text: str) -> None:
        self.lines.append(f'  {text}')

    def problem(self, what: str, remedy: str) -> None:
        self.problems.append((what, remedy))


def remedy_for(text: str) -> str:
    """Return advice for an error by its text."""
    for pattern, advice in REMEDIES:
        if found := re.search(pattern, text):
            return found.expand(advice)
    return f'see the message; {autoload.SWITCH}=0 in the environment switches c2fdft off'


def examine() -> Report:
    """Examine this interpreter's installation; imports BasicSR, and so runs the hook."""
    report = Report()
    report.say('c2fdft', f'{__version__} in {Path(__file__).resolve().parents[2]}')
    report.say('Python', f'{platform.python_version()} in {sys.prefix}')
    _examine_hook(report)
    _examine_torch(report)
    _examine_kernels(report)
    if _examine_basicsr(report):
        _examine_registries(report)
    _examine_patches(report)
    _examine_extras(report)
    _examine_options(report)
    return report


def _examine_hook(report: Report) -> None:
    files = {Path(folder) / name for folder in sys.path if folder for name in STARTUP_FILES}
    source = Path(__file__).resolve().parent
    found = sorted(str(path) for path in files if path.is_file() and path.parent != source)
    active = autoload.installed_hook() is not None
    report.say('hook', 'in place' if active else 'not in place')
    for path in found:
        report.item(path)
    if active:
        return
    if autoload.switched_off():
        value = os.environ[autoload.SWITCH]
        remedy = f'unset {autoload.SWITCH} to have c2fdft in BasicSR'
        report.problem(f'{autoload.SWITCH}={value} switches the hook off', remedy)
    elif found:
        remedy = 'start Python without -S and -I, and look for errors printed when it starts'
        report.problem(f'{found[0]} is there, but the interpreter did not run it', remedy)
    else:
        report.problem('no start-up file of c2fdft in any folder of sys.path', INSTALL)


def _examine_torch(report: Report) -> None:
    for name in ('torch', 'torchvision'):
        try:
            module = importlib.import_module(name)
            report.say(name, module.__version__)
        except Exception as error:
            report.say(name, 'cannot be imported')
            report.problem(f'import {name}: {error}', remedy_for(str(error)))
    torch = sys.modules.get('torch')
    if torch is not None and hasattr(torch, 'cuda'):
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        report.say('devices', ', '.join(gpus) or f'CPU, {torch.get_num_threads()} threads')


def _examine_kernels(report: Report) -> None:
    """Compiles them too, if that has not been done."""
    if 'torch' not in sys.modules:
        return
    from c2fdft_arch.native.build import compiled_library

    library, why = compiled_library()
    report.say('kernels', f'in C++, {why}' if library else f"PyTorch's operations: {why}")


def _examine_basicsr(report: Report) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            basicsr = importlib.import_module('basicsr')
            importlib.import_module('basicsr.utils.registry')
        except Exception as error:
            report.say('BasicSR', 'cannot be imported')
            report.problem(f'import basicsr: {error}', remedy_for(str(error)))
            return False
    folder = Path(basicsr.__file__).resolve().parent  # type: ignore[arg-type]
    report.say('BasicSR', f'{basicsr.__version__} in {folder}')
    for copy in other_copies():
        report.item(f'not used: another copy in {copy}')
    for failure in registration.failures:
        report.problem(failure, remedy_for(failure))
    return True


def _examine_registries(report: Report) -> None:
    registries = importlib.import_module('basicsr.utils.registry')
    report.say('registered', 'with BasicSR by c2fdft')
    for kind in ('arch', 'model', 'dataset', 'loss', 'metric'):
        registry = getattr(registries, f'{kind.upper()}_REGISTRY')
        modules = {name: getattr(thing, '__module__', '') for name, thing in registry}
        ours = [n for n, m in modules.items() if m.startswith(('c2fdft_arch.', 'c2fdft_model.'))]
        # No line where there is none of this kind.
        report.lines += textwrap.wrap(
            ', '.join(sorted(ours)), 100, initial_indent=f'  {kind:<8}', subsequent_indent=' ' * 10
        )


def _examine_patches(report: Report) -> None:
    report.say('patched', 'faults of BasicSR')
    for patch in table.status():
        report.item(f'{patch.name:<26}{patch.state}')
        report.item(f'    {patch.fault} ({patch.upstream}; {patch.fixed_in})')


def _examine_extras(report: Report) -> None:
    try:
        requirements = requires('c2fdft') or []
    except PackageNotFoundError:
        return
    extras: dict[str, list[str]] = {}
    for requirement in requirements:
        found = re.match(r'([\w.-]+).*extra == [\'"](\w+)[\'"]', requirement)
        if found:
            extras.setdefault(found[2], []).append(found[1])
    report.say('extras', 'optional packages, `pip install c2fdft[NAME]`')
    for name, packages in sorted(extras.items()):
        absent = ', '.join(p for p in packages if not any(distributions(name=p)))
        report.item(f'{name:<10}{f"lacks {absent}" if absent else "complete"}')


def _examine_options(report: Report) -> None:
    try:
        folder = option_folder()
        report.say('options', f'{len(list(folder.rglob("*.yml")))} files in {folder}')
    except FileNotFoundError as error:
        report.say('options', 'none')
        report.problem(str(error), INSTALL)
