"""Each patch of BasicSR does what it says, once, and nothing where it is not needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import basicsr.train
import pytest
import torch
import torch.distributed as dist
from basicsr.losses import basic_loss
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util
from basicsr.utils import options as basicsr_options
from torch.nn.parallel import DistributedDataParallel

from c2fdft_model.plugin.patches import table
from c2fdft_model.plugin.patches.iterations import announce_iterations
from c2fdft_model.plugin.patches.patch import MASTER, NOT_FIXED, Patch
from c2fdft_model.plugin.patches.resume import load_resume_state
from helpers.vgg import replace_vgg

OPTION_FILE = """
name: parsed
num_gpu: 0
manual_seed: 0
datasets: {}
path: {}
logger: {}
"""
# BasicSR's own function, as a train.py that runs as a script defines it.
FAULTY = """
def load_resume_state(opt):
    device_id = torch.cuda.current_device()
    check_resume(opt, device_id)
"""
SOUND = """
def load_resume_state(opt):
    return 'read with care'
"""


def patched_functions() -> list:
    return [
        BaseModel.__init__,
        BaseModel.get_optimizer,
        BaseModel.model_to_device,
        BaseModel.resume_training,
        BaseModel.update_learning_rate,
        basic_loss.PerceptualLoss.__init__,
        basicsr.train.load_resume_state,
        basicsr.train.init_wandb_logger,
        basicsr.train.parse_options,
        basicsr_options.parse_options,
        dist_util._init_dist_pytorch,
        dist_util._init_dist_slurm,
    ]


def test_patching_again_changes_nothing():
    announce_iterations()
    before = patched_functions()
    table.before_import()
    table.after_import()
    announce_iterations()
    assert patched_functions() == before


@pytest.mark.parametrize('patch', table.status(), ids=lambda patch: patch.name)
def test_every_patch_names_its_fault_and_states_what_it_did(patch):
    assert patch.fault
    assert patch.upstream
    assert patch.fixed_in in {MASTER, NOT_FIXED}
    assert patch.state in {'applied', 'not needed'}


def test_failing_patch_is_reported_and_the_others_are_applied():
    applied = []

    def fail():
        raise ValueError('cannot')

    def succeed():
        applied.append(1)
        return True

    failing, succeeding = (Patch(f, 'a fault', 'none', NOT_FIXED) for f in (fail, succeed))
    with pytest.raises(RuntimeError, match='fail: ValueError: cannot'):
        table.apply([failing, succeeding])
    assert applied == [1]
    assert failing.state == 'failed: ValueError: cannot'
    assert succeeding.state == 'applied'


def test_patch_is_applied_once():
    calls = []
    patch = Patch(lambda: calls.append(1) is None, 'a fault', 'none', NOT_FIXED)
    patch()
    patch()
    assert calls == [1]


def test_module_that_torchvision_dropped_can_be_imported():
    from torchvision.transforms import functional
    from torchvision.transforms.functional_tensor import rgb_to_grayscale

    image = torch.rand(3, 2, 2)
    torch.testing.assert_close(rgb_to_grayscale(image), functional.rgb_to_grayscale(image))


def run_with_stand_in(tmp_path, code: str) -> str:
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    names = 'provide_distutils, provide_functional_tensor'
    code = f'from c2fdft_model.plugin.patches.table import {names}\n{code}'
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_module_that_torchvision_still_has_is_kept(tmp_path):
    transforms = tmp_path / 'torchvision' / 'transforms'
    transforms.mkdir(parents=True)
    for folder in (transforms, transforms.parent):
        (folder / '__init__.py').touch()
    (transforms / 'functional_tensor.py').write_text('mark = "torchvision\'s own"\n')
    code = """
provide_functional_tensor()
print(provide_functional_tensor.state)
from torchvision.transforms import functional_tensor
print(functional_tensor.mark)
"""
    assert run_with_stand_in(tmp_path, code) == "not needed\ntorchvision's own"


def test_absent_torchvision_is_left_to_basicsr_to_report(tmp_path):
    (tmp_path / 'torchvision.py').write_text('raise ModuleNotFoundError("no torchvision")\n')
    code = 'provide_functional_tensor()\nprint(provide_functional_tensor.state)'
    assert run_with_stand_in(tmp_path, code) == 'not needed'


def test_distutils_can_be_imported_without_the_help_of_a_startup_file(tmp_path):
    # As on Python 3.12 and newer in an environment whose own start-up files were not run.
    code = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if 'distutils' not in repr(finder).lower()]
had = sys.version_info < (3, 12)
provide_distutils()
print((provide_distutils.state == 'applied') is not had)
from distutils.version import LooseVersion
print(LooseVersion('0.10') > LooseVersion('0.9'))
"""
    assert run_with_stand_in(tmp_path, code) == 'True\nTrue'


@pytest.mark.parametrize(('criterion', 'expected'), [('l1', 0.5), ('l2', 0.25)])
def test_the_perceptual_loss_compares_features_by_its_criterion(monkeypatch, criterion, expected):
    replace_vgg(monkeypatch)
    loss = basic_loss.PerceptualLoss({'conv3_3': 2.0}, criterion=criterion, perceptual_weight=10.0)
    image = torch.zeros(1, 3, 4, 4)
    assert float(loss(image + 0.5, image)[0]) == pytest.approx(20 * expected)
    assert loss.criterion_type == criterion


def optimizer(name: str) -> torch.optim.Optimizer:
    weights = [torch.nn.Parameter(torch.zeros(2))]
    return BaseModel.get_optimizer(None, name, weights, 1e-3, weight_decay=0.1)


def test_adamw_is_built_with_its_settings():
    built = optimizer('AdamW')
    assert type(built) is torch.optim.AdamW
    assert built.param_groups[0]['weight_decay'] == 0.1


def test_adam_is_built_as_before():
    assert type(optimizer('Adam')) is torch.optim.Adam


def test_unknown_optimizer_is_refused_as_before():
    with pytest.raises(NotImplementedError, match='Nonesuch'):
        optimizer('Nonesuch')


def parse(tmp_path, monkeypatch, *arguments: str):
    path = tmp_path / 'options.yml'
    path.write_text(OPTION_FILE)
    given = ['train.py', '-opt', str(path), *arguments]
    monkeypatch.setattr(sys, 'argv', given)
    _, parsed = basicsr.train.parse_options(str(tmp_path))
    assert sys.argv == given
    return parsed


@pytest.mark.parametrize(
    'spelling', [['--local-rank=3'], ['--local-rank', '3'], ['--local_rank=3']], ids=' '.join
)
def test_local_rank_in_either_spelling(spelling, tmp_path, monkeypatch):
    assert parse(tmp_path, monkeypatch, *spelling).local_rank == 3


@pytest.fixture
def run_as_script(tmp_path, monkeypatch):
    """Makes a module of the given source the running script, and returns it."""

    def run(source: str) -> types.ModuleType:
        path = tmp_path / 'train.py'
        path.write_text(source)
        script = types.ModuleType('__main__')
        exec(compile(source, str(path), 'exec'), vars(script))
        monkeypatch.setitem(sys.modules, '__main__', script)
        return script

    return run


def test_faulty_resume_of_a_running_script_is_replaced(tmp_path, monkeypatch, run_as_script):
    script = run_as_script(FAULTY)
    parse(tmp_path, monkeypatch)
    assert script.load_resume_state is load_resume_state


@pytest.mark.parametrize('source', [SOUND, ''], ids=['sound', 'none'])
def test_a_running_script_without_the_fault_is_left_alone(
    source, tmp_path, monkeypatch, run_as_script
):
    script = run_as_script(source)
    before = dict(vars(script))
    parse(tmp_path, monkeypatch)
    assert vars(script) == before


def test_train_script_of_basicsr_itself_is_patched(tmp_path, monkeypatch, run_as_script):
    source = Path(basicsr.train.__file__).read_text()
    script = run_as_script(source.split('if __name__ ==')[0])
    parse(tmp_path, monkeypatch)
    assert script.load_resume_state is load_resume_state


def resume_options(path) -> dict:
    return {'auto_resume': False, 'rank': 0, 'path': {'resume_state': path, 'models': 'models'}}


def test_no_state_is_named_for_a_fresh_run():
    assert load_resume_state(resume_options(None)) is None


def test_state_is_loaded_to_the_cpu_and_its_network_is_named(tmp_path):
    path = tmp_path / '7.state'
    torch.save({'epoch': 1, 'iter': 7, 'optimizers': [], 'schedulers': []}, path)
    opt = {**resume_options(str(path)), 'network_g': {}}
    assert load_resume_state(opt)['iter'] == 7
    assert opt['path']['pretrain_network_g'] == os.path.join('models', 'net_g_7.pth')


def test_missing_state_is_named(tmp_path):
    path = str(tmp_path / '9.state')
    with pytest.raises(FileNotFoundError, match='resume_state: there is no file .*9.state'):
        load_resume_state(resume_options(path))


def test_file_that_is_no_state_is_named(tmp_path):
    path = tmp_path / '9.state'
    path.write_bytes(b'not a checkpoint')
    with pytest.raises(ValueError, match='9.state cannot be read: it is a text file'):
        load_resume_state(resume_options(str(path)))


class Harmful:
    def __reduce__(self):
        return (print, ('code from a checkpoint has run',))


def test_code_in_a_state_is_not_run(tmp_path, capsys):
    path = tmp_path / '9.state'
    torch.save({'epoch': 1, 'iter': 9, 'harm': Harmful()}, path)
    with pytest.raises(ValueError, match='cannot be read'):
        load_resume_state(resume_options(str(path)))
    assert capsys.readouterr().out == ''


@pytest.fixture
def process_group(monkeypatch, tmp_path):
    """One process as its own group, started the way BasicSR starts it on a machine without GPUs."""
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setenv('RANK', '0')
    dist_util._init_dist_pytorch(
        'nccl', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def test_process_group_without_a_gpu_uses_gloo(process_group):
    assert dist.get_backend() == 'gloo'


def test_network_on_the_cpu_is_distributed_without_device_ids(process_group):
    model = types.SimpleNamespace(opt={'dist': True, 'num_gpu': 0}, device=torch.device('cpu'))
    net = BaseModel.model_to_device(model, torch.nn.Linear(2, 1))
    assert isinstance(net, DistributedDataParallel)
    assert net.device_ids is None


def test_network_of_one_process_is_not_wrapped():
    model = types.SimpleNamespace(opt={'dist': False, 'num_gpu': 0}, device=torch.device('cpu'))
    net = torch.nn.Linear(2, 1)
    assert BaseModel.model_to_device(model, net) is net


def test_slurm_tells_torch_its_place(monkeypatch, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho node7\necho node8\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    slurm = {'NODELIST': 'node[7-8]', 'NTASKS': '4', 'PROCID': '3', 'LOCALID': '1'}
    for name, value in slurm.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'WORLD_SIZE', 'RANK', 'LOCAL_RANK'):
        monkeypatch.setenv(name, 'to be restored')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    started = []
    monkeypatch.setattr(dist, 'init_process_group', lambda **given: started.append(given))
    dist_util._init_dist_slurm('nccl', port=1234)
    assert started == [{'backend': 'gloo'}]
    names = ('MASTER_ADDR', 'MASTER_PORT', 'WORLD_SIZE', 'RANK', 'LOCAL_RANK')
    assert [os.environ[name] for name in names] == ['node7', '1234', '4', '3', '1']


def stub_wandb(monkeypatch, **util) -> list[dict]:
    """Puts a module `wandb` in place; returns what its `init` is given."""
    started: list[dict] = []
    stub = types.ModuleType('wandb')
    stub.util = types.SimpleNamespace(**util)
    stub.init = lambda **given: started.append(given)
    monkeypatch.setitem(sys.modules, 'wandb', stub)
    return started


WANDB_OPTIONS = {'name': 'run', 'logger': {'wandb': {'project': 'restoration'}}}


def test_wandb_without_generate_id_gets_a_new_name_for_every_run(monkeypatch):
    started = stub_wandb(monkeypatch)
    for _ in range(2):
        basicsr.train.init_wandb_logger(WANDB_OPTIONS)
    names = [given['id'] for given in started]
    assert all(re.fullmatch('[a-z0-9]{8}', name) for name in names)
    assert names[0] != names[1]
    assert (started[0]['project'], started[0]['sync_tensorboard']) == ('restoration', True)


def test_the_generate_id_that_wandb_has_is_kept(monkeypatch):
    started = stub_wandb(monkeypatch, generate_id=lambda: 'its own')
    basicsr.train.init_wandb_logger(WANDB_OPTIONS)
    assert started[0]['id'] == 'its own'


class Clock:
    """Stands in for the training clock and records its calls."""

    def __init__(self, monkeypatch):
        from c2fdft_model.data.training_clock import training_clock

        self.calls = []
        monkeypatch.setattr(training_clock, 'start', lambda opt: self.calls.append('start'))
        monkeypatch.setattr(training_clock, 'resumed', lambda *at: self.calls.append(at))
        monkeypatch.setattr(training_clock, 'iteration', lambda i: self.calls.append(i))


def test_clock_is_told_of_start_resume_and_every_iteration(monkeypatch):
    announce_iterations()
    clock = Clock(monkeypatch)
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    model.resume_training({'epoch': 2, 'iter': 4, 'optimizers': [], 'schedulers': []})
    for iteration in (5, 6):
        model.update_learning_rate(iteration, warmup_iter=-1)
    assert clock.calls == ['start', (4, 2), 5, 6]


def test_clock_is_not_told_of_a_test(monkeypatch):
    announce_iterations()
    clock = Clock(monkeypatch)
    BaseModel({'num_gpu': 0, 'is_train': False})
    assert clock.calls == []


def test_log_says_which_copy_of_basicsr_runs_and_which_does_not(monkeypatch, tmp_path):
    checkout = tmp_path / 'checkout' / 'basicsr'
    checkout.mkdir(parents=True)
    for name in ('__init__.py', 'train.py'):
        (checkout / name).touch()
    monkeypatch.setattr(sys, 'argv', [str(checkout / 'train.py')])
    lines = [line.strip() for line in basicsr.train.get_env_info().splitlines()]
    used = Path(basicsr.__file__).resolve().parent
    assert f'BasicSR in: {used}' in lines
    assert f'not used: another copy of BasicSR in {checkout}' in lines
    assert any(line.startswith('c2fdft: ') for line in lines)


def test_one_copy_of_basicsr_is_named_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [''])
    assert 'another copy' not in basicsr.train.get_env_info()
