"""Mends the faults of BasicSR that stop it on current PyTorch, or without a GPU.

One function per fault. Each states the upstream report and the version that makes it unnecessary,
changes nothing where BasicSR does not need it, and may be called any number of times. `status()`
says what each of them did; the doctor (`python -m c2fdft_arch`) prints it.

Nothing here imports BasicSR before it is called: `before_import` must run first.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import secrets
import string
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MASTER = 'GitHub master'
NOT_FIXED = 'not fixed upstream'


@dataclass
class Mend:
    """What one function of this module is for, and what it did in this process."""

    apply: Callable[[], bool]
    fault: str
    upstream: str
    fixed_in: str
    state: str = 'not called'

    @property
    def name(self) -> str:
        return self.apply.__name__


BEFORE_IMPORT: list[Mend] = []
AFTER_IMPORT: list[Mend] = []
ON_REQUEST: list[Mend] = []


def _mends(when: list[Mend], *, fault: str, upstream: str, fixed_in: str):
    """Enter a function in the table; its result says whether BasicSR is mended now."""

    def enter(function: Callable[[], bool]) -> Callable[[], bool]:
        entry = Mend(function, fault, upstream, fixed_in)

        @functools.wraps(function)
        def apply() -> bool:
            try:
                mended = function()
            except Exception as error:
                entry.state = f'failed: {type(error).__name__}: {error}'
                raise
            entry.state = 'applied' if mended else 'not needed'
            return mended

        entry.apply = apply
        when.append(entry)
        return apply

    return enter


def before_import() -> None:
    """Do what must be done before BasicSR's own code runs."""
    for mend in BEFORE_IMPORT:
        mend.apply()


def after_import() -> None:
    """Mend the imported BasicSR; a mend that fails does not keep the others from being made."""
    errors = []
    for mend in AFTER_IMPORT:
        try:
            mend.apply()
        except Exception as error:
            errors.append(f'{mend.name}: {type(error).__name__}: {error}')
    if errors:
        raise RuntimeError('; '.join(errors))


def status() -> list[Mend]:
    """Every mend with its state in this process: applied, not needed, not called or failed."""
    return [*BEFORE_IMPORT, *AFTER_IMPORT, *ON_REQUEST]


def _is_ours(function: Any) -> bool:
    return getattr(function, '__module__', None) == __name__


def _rebind(old: Any, new: Any) -> None:
    """Replace a function under every name by which BasicSR's modules have imported it."""
    for module_name, module in list(sys.modules.items()):
        if module_name == 'basicsr' or module_name.startswith('basicsr.'):
            for name, value in list(vars(module).items()):
                if value is old:
                    setattr(module, name, new)


def _as_ours(function: Callable, original: Callable) -> Callable:
    """Keep the original's name and text for readers of tracebacks, but mark the function ours."""
    functools.update_wrapper(function, original)
    function.__module__ = __name__
    return function


@_mends(
    BEFORE_IMPORT,
    fault='imports torchvision.transforms.functional_tensor, removed in torchvision 0.17',
    upstream='BasicSR #663',
    fixed_in=MASTER,
)
def provide_functional_tensor() -> bool:
    """Provide the removed torchvision module, with the one function BasicSR takes from it."""
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules:
        return getattr(sys.modules[name], '__c2fdft__', False)
    try:
        if importlib.util.find_spec(name) is not None:
            return False
        from torchvision.transforms.functional import rgb_to_grayscale
    except ModuleNotFoundError:  # no torchvision: BasicSR's own import says so better
        return False
    module = types.ModuleType(name, 'The part of the removed module that BasicSR 1.4.2 imports.')
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    module.__c2fdft__ = True  # type: ignore[attr-defined]
    sys.modules[name] = module
    return True


@_mends(
    BEFORE_IMPORT,
    fault='imports distutils, removed in Python 3.12',
    upstream='PEP 632',
    fixed_in=NOT_FIXED,
)
def provide_distutils() -> bool:
    """Let setuptools put its copy of distutils in place, if nothing has done so yet."""
    if importlib.util.find_spec('distutils') is not None:
        return False
    importlib.import_module('setuptools')
    return True


@_mends(
    AFTER_IMPORT,
    fault='get_optimizer knows Adam alone',
    upstream='BasicSR commit 18a2987',
    fixed_in=MASTER,
)
def accept_adamw() -> bool:
    """Let `optim_g: type: AdamW` build torch.optim.AdamW."""
    import torch
    from basicsr.models.base_model import BaseModel

    original = BaseModel.get_optimizer
    if _is_ours(original):
        return True
    probe = [torch.nn.Parameter(torch.zeros(1))]
    try:
        original(None, 'AdamW', probe, 1e-3)
        return False
    except NotImplementedError:
        pass

    def get_optimizer(self, optim_type, params, lr, **kwargs):
        if optim_type == 'AdamW':
            return torch.optim.AdamW(params, lr, **kwargs)
        return original(self, optim_type, params, lr, **kwargs)

    BaseModel.get_optimizer = _as_ours(get_optimizer, original)
    return True


def load_resume_state(opt: dict) -> dict | None:
    """Find and load the training state that this run continues; None for a fresh run.

    The state is loaded to the CPU, wherever it was written: optimisers move their own part to
    their parameters' device, and random states must stay on the CPU. With `--auto_resume` the
    newest state of the experiment's own folder is taken, whatever the working directory is; one
    that is damaged, or whose network is, is passed over with a warning.
    """
    from basicsr.utils import check_resume

    from c2fdft_model.checkpointing.checkpoint_files import read_training_state

    path = _newest_whole_state(opt) if opt['auto_resume'] else opt['path'].get('resume_state')
    if not path:
        return None
    opt['path']['resume_state'] = path
    state = read_training_state(path)
    check_resume(opt, state['iter'])
    return state


def _newest_whole_state(opt: dict) -> str | None:
    from c2fdft_model.checkpointing.checkpoint_files import resumable_iterations, state_file

    folder, models = opt['path']['training_states'], opt['path']['models']
    problems: list[str] = []
    iteration = next(resumable_iterations(folder, models, problems.append), None)
    going_on = 'training starts anew' if iteration is None else f'iteration {iteration} is used'
    for problem in problems:
        warnings.warn(f'--auto_resume: {problem}; {going_on}.', RuntimeWarning, stacklevel=2)
    # The log does not exist yet; BasicSR writes all options into it, the model what is here.
    opt['resume_problems'] = problems
    return None if iteration is None else str(state_file(folder, iteration))


@_mends(
    AFTER_IMPORT,
    fault='resuming needs CUDA; states are unpickled without weights_only before PyTorch 2.6',
    upstream='BasicSR #107, PR #706',
    fixed_in=NOT_FIXED,
)
def resume_without_cuda() -> bool:
    """Replace `load_resume_state` in basicsr.train, and in a train.py that runs as a script."""
    import basicsr.train

    original = basicsr.train.load_resume_state
    if not _is_ours(original):
        _rebind(original, load_resume_state)
    _mend_parse_options()
    return True


@_mends(
    AFTER_IMPORT,
    fault='torch.distributed.launch passes --local-rank, the parser knows --local_rank',
    upstream='BasicSR #626',
    fixed_in=NOT_FIXED,
)
def accept_local_rank() -> bool:
    """Let `parse_options` understand `--local-rank` too."""
    _mend_parse_options()
    return True


def _mend_parse_options() -> None:
    """Let the first thing that both of BasicSR's pipelines call make two mends.

    A train.py that runs as a script defines its `load_resume_state` in `__main__` after the import
    of BasicSR; this is the last call before that function is used.
    """
    import basicsr.utils.options

    original = basicsr.utils.options.parse_options
    if _is_ours(original):
        return

    def mended_parse_options(root_path, is_train=True):
        _replace_in_main()
        given = sys.argv
        sys.argv = [re.sub('^--local-rank(?=$|=)', '--local_rank', argument) for argument in given]
        try:
            return original(root_path, is_train=is_train)
        finally:
            sys.argv = given

    _rebind(original, _as_ours(mended_parse_options, original))


def _replace_in_main() -> None:
    """Replace a BasicSR `load_resume_state` that was defined in the running script."""
    script = sys.modules.get('__main__')
    function = getattr(script, 'load_resume_state', None)
    code = getattr(function, '__code__', None)
    # The fault itself identifies the function: one that asks CUDA for nothing is not touched.
    if code is not None and {'current_device', 'check_resume'} <= set(code.co_names):
        script.load_resume_state = load_resume_state  # type: ignore[union-attr]


@_mends(
    AFTER_IMPORT,
    fault='--launcher divides by the number of GPUs and asks for NCCL, also without a GPU',
    upstream='BasicSR #107',
    fixed_in=NOT_FIXED,
)
def launch_without_cuda() -> bool:
    """Start process groups with gloo on machines without a GPU."""
    import torch
    import torch.distributed as dist
    from basicsr.utils import dist_util

    start_pytorch, start_slurm = dist_util._init_dist_pytorch, dist_util._init_dist_slurm
    if _is_ours(start_pytorch):
        return True

    def init_dist_pytorch(backend, **kwargs):
        kwargs = _store_of_restart() | kwargs
        if torch.cuda.device_count():
            return start_pytorch(backend, **kwargs)
        return dist.init_process_group(backend='gloo', **kwargs)

    def init_dist_slurm(backend, port=None):
        if torch.cuda.device_count():
            return start_slurm(backend, port)
        _environment_from_slurm(port)
        return dist.init_process_group(backend='gloo')

    dist_util._init_dist_pytorch = _as_ours(init_dist_pytorch, start_pytorch)
    dist_util._init_dist_slurm = _as_ours(init_dist_slurm, start_slurm)
    return True


def _store_of_restart() -> dict[str, Any]:
    """Arguments of `init_process_group` for workers that torchrun has started again; else none.

    From PyTorch 2.5 on they share a key-value store with the workers before them, may read the
    addresses of those that died, and then wait until the time-out (PyTorch #135712). Keys with the
    number of the restart are their own.
    """
    import torch.distributed as dist

    restart = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if restart == '0':
        return {}
    store, rank, world_size = next(iter(dist.rendezvous('env://')))
    return {
        'store': dist.PrefixStore(f'restart_{restart}', store),
        'rank': rank,
        'world_size': world_size,
    }


def _environment_from_slurm(port: int | None) -> None:
    """Translate Slurm's variables into those that torch.distributed reads, as BasicSR does."""
    hosts = subprocess.run(
        ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']],
        check=True,
        capture_output=True,
        text=True,
    )
    if port is not None:
        os.environ['MASTER_PORT'] = str(port)
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ['MASTER_ADDR'] = hosts.stdout.split()[0]
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ['RANK'] = os.environ['SLURM_PROCID']
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', '0')


@_mends(
    AFTER_IMPORT,
    fault='model_to_device gives DistributedDataParallel a CUDA device, also on the CPU',
    upstream='BasicSR #107',
    fixed_in=NOT_FIXED,
)
def distribute_without_cuda() -> bool:
    """Wrap a network on the CPU in DistributedDataParallel without device_ids."""
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    original = BaseModel.model_to_device
    if _is_ours(original):
        return True

    def model_to_device(self, net):
        if not (self.opt['dist'] and self.device.type == 'cpu'):
            return original(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    BaseModel.model_to_device = _as_ours(model_to_device, original)
    return True


@_mends(
    AFTER_IMPORT,
    fault='init_wandb_logger calls wandb.util.generate_id, which wandb 0.28 removed',
    upstream='no report; basicsr/utils/logger.py',
    fixed_in=NOT_FIXED,
)
def name_wandb_runs() -> bool:
    """Give wandb the function that BasicSR draws a run's name from, if it lacks it.

    Not before W&B is asked for: importing wandb takes seconds.
    """
    from basicsr.utils import logger

    original = logger.init_wandb_logger
    if _is_ours(original):
        return True

    def init_wandb_logger(opt):
        import wandb

        if not hasattr(wandb.util, 'generate_id'):
            wandb.util.generate_id = _random_id
        return original(opt)

    _rebind(original, _as_ours(init_wandb_logger, original))
    return True


def _random_id(length: int = 8) -> str:
    """A name of small letters and digits, as wandb draws it; no seed decides it."""
    return ''.join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))


@_mends(
    ON_REQUEST,
    fault='a dataset cannot know the iteration it is asked for',
    upstream='none',
    fixed_in=NOT_FIXED,
)
def announce_iterations() -> bool:
    """Tell `c2fdft_model.data.training_clock.training_clock` of every start, iteration and resume.

    Wraps three methods of BaseModel, the one thing that every BasicSR model passes through and
    that knows the iteration before the batch is fetched.
    """
    from basicsr.models.base_model import BaseModel

    from c2fdft_model.data.training_clock import training_clock

    if _is_ours(BaseModel.update_learning_rate):
        return True
    initialise = BaseModel.__init__
    update_learning_rate = BaseModel.update_learning_rate
    resume_training = BaseModel.resume_training

    def announced_init(self, opt):
        initialise(self, opt)
        if self.is_train:
            training_clock.start(opt)

    def announced_update(self, current_iter, warmup_iter=-1):
        training_clock.iteration(current_iter)
        update_learning_rate(self, current_iter, warmup_iter=warmup_iter)

    def announced_resume(self, resume_state):
        training_clock.resumed(resume_state['iter'], resume_state['epoch'])
        resume_training(self, resume_state)

    BaseModel.__init__ = _as_ours(announced_init, initialise)
    BaseModel.update_learning_rate = _as_ours(announced_update, update_learning_rate)
    BaseModel.resume_training = _as_ours(announced_resume, resume_training)
    return True
