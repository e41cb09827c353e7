"""The hook: what it registers and when, in every import order, and what it does when it fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from c2fdft_model.plugin.autoload import LEAVES

REGISTERED = {
    'ARCH': ['DFT', 'NoisePredictor'],
    'MODEL': ['C2FDFTModel'],
    'DATASET': ['PatchCyclePairedDataset'],
    'LOSS': ['SSIMLoss'],
    'METRIC': ['calculate_lpips'],
}
FIRST_IMPORTS = [
    'import basicsr',
    'import basicsr.archs.edsr_arch',
    'from basicsr.data import build_dataset',
    'from basicsr.utils.registry import ARCH_REGISTRY',
    'import basicsr.train',
    'import c2fdft_model.plugin.patches.table',
    *[f'import {leaf}' for leaf in LEAVES],
]
# Carries out each of its arguments in a process of its own and prints, as a line of JSON, what was
# registered and what warned. What BasicSR needs is imported once, before the processes part.
REAL_RUNS = """
import json, os, sys, warnings
import cv2, scipy.stats, skimage, torch, torchvision
def run(first):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        exec(first)
        import basicsr
        from basicsr.utils import registry
    names = {kind: [name for name, thing in getattr(registry, kind + '_REGISTRY')]
             for kind in ('ARCH', 'MODEL', 'DATASET', 'LOSS', 'METRIC')}
    told = [str(warning.message) for warning in caught if 'c2fdft' in str(warning.message)]
    print('RESULT ' + json.dumps([first, names, told]), flush=True)
for first in sys.argv[1:]:
    assert 'basicsr' not in sys.modules
    process = os.fork()
    if not process:
        run(first)
        os._exit(0)
    os.waitpid(process, 0)
"""


def run_python(code: str, environment: dict, *arguments: str, cwd: Path | None = None, flags=()):
    """Run code in a fresh interpreter."""
    command = [sys.executable, *flags, '-c', textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope='module')
def real_runs(tmp_path_factory):
    """For each first import that ended well: the registered names and c2fdft's warnings."""
    environment = {key: value for key, value in os.environ.items() if key != 'C2FDFT_AUTOLOAD'}
    done = run_python(REAL_RUNS, environment, *FIRST_IMPORTS, cwd=tmp_path_factory.mktemp('real'))
    lines = [line for line in done.stdout.splitlines() if line.startswith('RESULT ')]
    return {first: rest for first, *rest in (json.loads(line[7:]) for line in lines)}, done.stderr


@pytest.mark.subprocess
@pytest.mark.parametrize('first', FIRST_IMPORTS)
def test_everything_is_registered_whatever_is_imported_first(first, real_runs):
    results, errors = real_runs
    assert first in results, errors
    names, told = results[first]
    assert told == []
    for kind, expected in REGISTERED.items():
        assert set(expected) <= set(names[kind])


@pytest.mark.subprocess
def test_switched_off_leaves_basicsr_alone(clean_environment, tmp_path):
    code = """
    import sys
    assert not any(hasattr(finder, 'c2fdft_hook') for finder in sys.meta_path)
    try:
        import basicsr
        from basicsr.utils.registry import ARCH_REGISTRY
        assert 'DFT' not in ARCH_REGISTRY
    except ModuleNotFoundError as error:  # BasicSR 1.4.2 as it is, with a current torchvision
        assert 'functional_tensor' in str(error)
    loaded = {name for name in sys.modules if name.startswith('c2fdft_model')}
    assert loaded == {'c2fdft_model', 'c2fdft_model.plugin', 'c2fdft_model.plugin.autoload'}
    """
    done = run_python(code, {**clean_environment, 'C2FDFT_AUTOLOAD': '0'}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# From here on BasicSR is a stand-in of a few lines, and so are the leaves, so that failures can be
# made at will and a run takes milliseconds.


@pytest.fixture
def stand_in(tmp_path, clean_environment):
    """A folder with a package `basicsr` and two leaves that tell the order of events."""
    package = tmp_path / 'basicsr'
    package.mkdir()
    (package / '__init__.py').write_text(
        'import events\nevents.happened.append("basicsr begins")\n'
        'from basicsr import part\nevents.happened.append("basicsr ends")\n'
    )
    (package / 'part.py').write_text('WHOLE = True\n')
    (package / 'utils').mkdir()
    for name in ('__init__.py', 'registry.py'):
        (package / 'utils' / name).touch()
    (tmp_path / 'events.py').write_text('happened = []\n')
    for leaf in ('leaf_one', 'leaf_two'):
        (tmp_path / f'{leaf}.py').write_text(
            f'import events\nfrom basicsr.part import WHOLE\nevents.happened.append("{leaf}")\n'
        )
    (tmp_path / 'setting.py').write_text(
        textwrap.dedent("""
        import sys, types
        import events
        from c2fdft_model.plugin import autoload, registration
        table = sys.modules[registration.PATCHES] = types.ModuleType(registration.PATCHES)
        table.before_import = lambda: events.happened.append('before')
        table.after_import = lambda: events.happened.append('after')
        table.modules = lambda: ()
        autoload.LEAVES = ('leaf_one', 'leaf_two')
        """)
    )
    clean_environment['PYTHONPATH'] = str(tmp_path)
    return tmp_path, clean_environment


IN_ORDER = "['before', 'basicsr begins', 'basicsr ends', 'after', 'leaf_one', 'leaf_two']"


def check(stand_in, code: str, *, flags=(), **variables: str):
    """Run code after `setting`; returns the finished process, which must have succeeded."""
    folder, environment = stand_in
    code = 'import setting, events, sys\n' + textwrap.dedent(code)
    done = run_python(code, {**environment, **variables}, cwd=folder, flags=flags)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    'statement',
    ['import basicsr', 'import basicsr.part', 'from basicsr.part import WHOLE', 'import leaf_two'],
)
def test_leaves_are_imported_once_basicsr_is_whole(stand_in, statement):
    code = f'{statement}\nassert sorted(events.happened) == sorted({IN_ORDER}), events.happened'
    assert check(stand_in, code).stderr == ''


def test_patches_come_before_and_after_basicsr_and_the_leaves_last(stand_in):
    check(stand_in, f'import basicsr\nassert events.happened == {IN_ORDER}, events.happened')


def test_a_second_import_and_a_reload_register_nothing_again(stand_in):
    code = """
    import importlib, basicsr
    importlib.reload(basicsr)
    import basicsr
    assert events.happened.count('leaf_one') == events.happened.count('leaf_two') == 1
    """
    assert check(stand_in, code).stderr == ''


def test_installing_twice_leaves_one_hook(stand_in):
    code = """
    from c2fdft_model.plugin import autoload
    autoload.install()
    autoload.install()
    assert sum(hasattr(finder, 'c2fdft_hook') for finder in sys.meta_path) == 1
    """
    check(stand_in, code)


def test_site_that_runs_the_startup_files_twice_leaves_one_hook(stand_in):
    code = """
    import pathlib, site
    from c2fdft_model.plugin import autoload
    startup = pathlib.Path(autoload.__file__).with_name('c2fdft_autoload.pth')
    folder = pathlib.Path('site')
    folder.mkdir()
    folder.joinpath(startup.name).write_text(startup.read_text())
    sys.meta_path.remove(autoload.installed_hook())
    for _ in range(2):
        site.addsitedir(str(folder))
    assert sum(hasattr(finder, 'c2fdft_hook') for finder in sys.meta_path) == 1
    """
    assert check(stand_in, code).stderr == ''


def test_startup_file_names_a_callable_for_newer_interpreters(stand_in):
    code = """
    import pathlib, pkgutil
    from c2fdft_model.plugin import autoload
    startup = pathlib.Path(autoload.__file__).with_name('c2fdft_autoload.start')
    assert pkgutil.resolve_name(startup.read_text().strip()) is autoload.install
    """
    check(stand_in, code)


def test_hook_installed_after_basicsr_registers_at_once(stand_in):
    code = """
    from c2fdft_model.plugin import autoload
    sys.meta_path.remove(autoload.installed_hook())
    import basicsr
    assert 'leaf_one' not in events.happened
    autoload.install()
    assert events.happened[-2:] == ['leaf_one', 'leaf_two']
    """
    assert check(stand_in, code).stderr == ''


def test_hook_installed_while_basicsr_is_being_imported_says_so(stand_in):
    folder, _ = stand_in
    (folder / 'basicsr' / 'part.py').write_text(
        'from c2fdft_model.plugin import autoload\nautoload.install()\nWHOLE = True\n'
    )
    code = """
    from c2fdft_model.plugin import autoload
    sys.meta_path.remove(autoload.installed_hook())
    import basicsr
    """
    assert 'while basicsr was being imported' in check(stand_in, code).stderr


@pytest.mark.parametrize('value', ['0', 'off', 'False', ' no '])
def test_values_that_switch_off(stand_in, value):
    code = """
    import basicsr
    assert events.happened == ['basicsr begins', 'basicsr ends'], events.happened
    """
    assert check(stand_in, code, C2FDFT_AUTOLOAD=value).stderr == ''


@pytest.mark.parametrize('value', ['1', ''])
def test_values_that_leave_it_on(stand_in, value):
    code = f'import basicsr\nassert events.happened == {IN_ORDER}'
    check(stand_in, code, C2FDFT_AUTOLOAD=value)


def test_failing_leaf_costs_one_warning_and_no_other_leaf(stand_in):
    (stand_in[0] / 'leaf_one.py').write_text('import a_package_that_is_not_there\n')
    code = "import basicsr\nassert events.happened[-1] == 'leaf_two'"
    told = check(stand_in, code).stderr
    assert told.count('RuntimeWarning') == 1
    assert "leaf_one: ModuleNotFoundError: No module named 'a_package_that_is_not_there'" in told
    assert 'C2FDFT_AUTOLOAD=0' in told


def test_all_failures_share_one_warning(stand_in):
    for leaf in ('leaf_one', 'leaf_two'):
        (stand_in[0] / f'{leaf}.py').write_text('raise RuntimeError("broken " + __name__)\n')
    code = """
    def fail():
        raise ValueError('no patch')
    setting.table.after_import = fail
    import basicsr
    """
    told = check(stand_in, code).stderr
    assert told.count('RuntimeWarning') == 1
    for cause in ('no patch', 'broken leaf_one', 'broken leaf_two'):
        assert cause in told


def test_failure_does_not_break_the_import_where_warnings_are_errors(stand_in):
    (stand_in[0] / 'leaf_one.py').write_text('raise RuntimeError("broken")\n')
    code = "import basicsr\nassert events.happened[-1] == 'leaf_two'"
    told = check(stand_in, code, flags=['-W', 'error']).stderr
    assert told.count('RuntimeWarning') == 1
    assert 'Traceback' not in told


def test_error_of_basicsr_itself_is_passed_on_and_a_later_import_works(stand_in):
    part = stand_in[0] / 'basicsr' / 'part.py'
    part.write_text('raise ImportError("BasicSR is broken")\n')
    code = """
    import pathlib
    try:
        import basicsr
    except ImportError as error:
        assert str(error) == 'BasicSR is broken'
    assert 'leaf_one' not in events.happened
    # of another size: Python would take a file of the same second and size for the one it compiled
    pathlib.Path('basicsr/part.py').write_text('WHOLE = True')
    import basicsr
    assert events.happened[-2:] == ['leaf_one', 'leaf_two']
    """
    assert check(stand_in, code).stderr == ''


def test_folder_called_basicsr_without_a_package_is_not_hooked(stand_in):
    folder, _ = stand_in
    for name in ('__init__.py', 'part.py'):
        (folder / 'basicsr' / name).unlink()
    code = """
    import pathlib
    sys.path[:] = [p for p in sys.path if not pathlib.Path(p, 'basicsr', '__init__.py').exists()]
    import basicsr
    assert events.happened == []
    """
    assert check(stand_in, code).stderr == ''


def test_basicsr_in_a_zip_archive(stand_in):
    folder, _ = stand_in
    with zipfile.ZipFile(folder / 'archive.zip', 'w') as archive:
        for name in ('__init__.py', 'part.py', 'utils/__init__.py', 'utils/registry.py'):
            archive.write(folder / 'basicsr' / name, f'basicsr/{name}')
    shutil.rmtree(folder / 'basicsr')
    code = f"""
    sys.path.insert(0, 'archive.zip')
    import basicsr
    assert 'archive.zip' in basicsr.__file__
    assert events.happened == {IN_ORDER}, events.happened
    """
    assert check(stand_in, code).stderr == ''


def test_loader_of_basicsr_is_left_as_it_was(stand_in):
    code = """
    import importlib.machinery, inspect, basicsr
    assert type(basicsr.__loader__) is importlib.machinery.SourceFileLoader
    assert 'exec_module' not in vars(basicsr.__loader__)
    assert 'basicsr begins' in inspect.getsource(basicsr)
    """
    check(stand_in, code)


def test_finder_that_asks_the_whole_import_system_again(stand_in):
    code = f"""
    import importlib.util
    class Asking:
        busy = False
        def find_spec(self, name, path=None, target=None):
            if name == 'basicsr' and not Asking.busy:
                Asking.busy = True
                return importlib.util.find_spec(name)
    sys.meta_path.insert(1, Asking())
    import basicsr
    assert events.happened == {IN_ORDER}, events.happened
    """
    assert check(stand_in, code).stderr == ''


def test_threads_that_import_at_the_same_time_all_find_everything_registered(stand_in):
    code = """
    import threading
    seen = []
    def work():
        import basicsr
        seen.append(events.happened[-1])
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert seen == ['leaf_two'] * 8, seen
    """
    assert check(stand_in, code).stderr == ''


def test_an_interpreter_that_does_not_import_basicsr_loads_the_hook_only(clean_environment):
    code = "import sys; print(sorted(name for name in sys.modules if 'c2fdft' in name))"
    done = run_python(code, clean_environment)
    assert (
        done.stdout.strip()
        == "['c2fdft_model', 'c2fdft_model.plugin', 'c2fdft_model.plugin.autoload']"
    )


# Another project's package of the same name, with registries, which imports nothing by itself.
FORK = {
    '__init__.py': '',
    'train.py': 'raise SystemExit("a training was started")',
    'utils/__init__.py': '',
    'utils/registry.py': """
class Registry:
    def __init__(self):
        self._obj_map = {}
    def _do_register(self, name, obj):
        assert name not in self._obj_map, f'{name} was already registered'
        self._obj_map[name] = obj
    def register(self, obj):
        self._do_register(obj.__name__, obj)
    def __contains__(self, name):
        return name in self._obj_map
ARCH_REGISTRY, LOSS_REGISTRY = Registry(), Registry()
""",
    'losses/__init__.py': """
from basicsr.utils.registry import LOSS_REGISTRY
class SSIMLoss:
    pass
LOSS_REGISTRY.register(SSIMLoss)
""",
}
OURS = """
import events
from basicsr.utils.registry import LOSS_REGISTRY
class SSIMLoss:
    pass
SSIMLoss.__module__ = 'c2fdft_model.losses'
LOSS_REGISTRY.register(SSIMLoss)
events.happened.append(__name__)
"""


@pytest.fixture
def fork(tmp_path, clean_environment):
    """The other project, and two leaves of ours: of a loss, and of a model."""
    for name, text in FORK.items():
        path = tmp_path / 'basicsr' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / 'events.py').write_text('happened = []\n')
    (tmp_path / 'our_loss.py').write_text(OURS)
    (tmp_path / 'our_model.py').write_text('raise RuntimeError("imported")\n')
    (tmp_path / 'setting.py').write_text(
        'from c2fdft_model.plugin import autoload, registration\n'
        'autoload.LEAVES = ("our_loss", "our_model")\n'
        'registration.AFTER = {"our_loss": "basicsr.losses", "our_model": "basicsr.models"}\n'
    )
    clean_environment['PYTHONPATH'] = str(tmp_path)
    return tmp_path, clean_environment


def test_of_another_projects_package_nothing_is_imported_but_what_it_imports(fork):
    code = """
    import basicsr.utils, basicsr.utils.registry
    ours = [name for name in sys.modules if name.startswith('basicsr')]
    assert sorted(ours) == ['basicsr', 'basicsr.utils', 'basicsr.utils.registry'], ours
    assert events.happened == []
    """
    assert check(fork, code).stderr == ''


def test_another_projects_name_stays_its_own_and_ours_has_a_prefix(fork):
    code = """
    import basicsr.losses
    from basicsr.utils.registry import LOSS_REGISTRY
    found = LOSS_REGISTRY._obj_map
    assert found['SSIMLoss'] is basicsr.losses.SSIMLoss
    assert found['c2fdft/SSIMLoss'].__module__ == 'c2fdft_model.losses'
    assert events.happened == ['our_loss']
    """
    told = check(fork, code).stderr
    assert told.count('RuntimeWarning') == 1
    assert 'those of c2fdft are c2fdft/SSIMLoss' in told


def test_name_that_another_project_registers_later_is_its_own_too(fork):
    (fork[0] / 'basicsr' / 'losses' / '__init__.py').write_text('')
    code = """
    import basicsr.losses
    from basicsr.utils.registry import LOSS_REGISTRY
    assert 'c2fdft/SSIMLoss' not in LOSS_REGISTRY
    class SSIMLoss: pass
    LOSS_REGISTRY.register(SSIMLoss)
    assert LOSS_REGISTRY._obj_map['SSIMLoss'] is SSIMLoss
    assert 'c2fdft/SSIMLoss' in LOSS_REGISTRY
    try:
        LOSS_REGISTRY.register(SSIMLoss)
    except AssertionError as error:  # a project's own mistake stays an error
        assert 'already registered' in str(error)
    else:
        raise SystemExit('registered twice')
    """
    assert check(fork, code).stderr.count('RuntimeWarning') == 1


def test_package_without_registries_is_left_alone_with_one_short_warning(fork):
    (fork[0] / 'basicsr' / 'utils' / 'registry.py').unlink()
    code = """
    import basicsr.utils, basicsr.losses as never
    """
    (fork[0] / 'basicsr' / 'losses' / '__init__.py').write_text('')
    told = check(fork, code + 'assert events.happened == []\n').stderr
    assert told.count('RuntimeWarning') == 1 and len(told) < 500
    assert f'{fork[0]}/basicsr/__init__.py, which has no registries' in told
    assert 'c2fdft_model.plugin.patches' not in told


@pytest.mark.parametrize('damage', ['moved away', 'unreadable'])
def test_startup_file_of_a_project_that_is_gone_is_silent(damage, tmp_path, clean_environment):
    from c2fdft_model.plugin import autoload

    startup = Path(autoload.__file__).with_name('c2fdft_autoload.pth')
    (tmp_path / startup.name).write_bytes(startup.read_bytes())
    if damage == 'unreadable':
        (tmp_path / 'c2fdft_model').mkdir()
        (tmp_path / 'c2fdft_model' / '__init__.py').write_text('raise PermissionError(13, "no")\n')
    code = f'import site; site.addsitedir({str(tmp_path)!r}); print("goes on")'
    done = run_python(code, clean_environment, cwd=tmp_path, flags=['-S', '-I'])
    assert (done.returncode, done.stdout, done.stderr) == (0, 'goes on\n', '')
