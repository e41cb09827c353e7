"""BasicSR's distributed launch, and its distributed networks, need GPUs."""

import os
import subprocess
from typing import Any

from c2fdft_model.plugin.patches.patch import patch, replaces


@patch(
    fault='--launcher divides by the number of GPUs and asks for NCCL, also without a GPU',
    upstream='BasicSR #107',
    module='basicsr.utils.dist_util',
)
def launch_without_cuda() -> bool:
    """Start process groups with gloo on machines without a GPU."""
    import torch
    import torch.distributed as dist
    from basicsr.utils import dist_util

    @replaces(dist_util, '_init_dist_pytorch')
    def init_dist_pytorch(start_pytorch, backend, **kwargs):
        kwargs = _store_of_restart() | kwargs
        if torch.cuda.device_count():
            return start_pytorch(backend, **kwargs)
        return dist.init_process_group(backend='gloo', **kwargs)

    @replaces(dist_util, '_init_dist_slurm')
    def init_dist_slurm(start_slurm, backend, port=None):
        if torch.cuda.device_count():
            return start_slurm(backend, port)
        _environment_from_slurm(port)
        return dist.init_process_group(backend='gloo')

    return True


def _store_of_restart() -> dict[str, Any]:
    """Arguments of `init_process_group` for workers that torchrun has restarted; else none.

    From PyTorch 2.5 on they share a key-value store with the workers before them, may read the
    addresses of those that died, and then wait until the time-out (PyTorch #135712). A prefix with
    the number of the restart keeps their keys apart.
    """
    import torch.distributed as dist

    restart = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if restart == '0':
        return {}
    store, rank, world_size = next(iter(dist.rendezvous('env://')))
    store = dist.PrefixStore(f'restart_{restart}', store)
    return {'store': store, 'rank': rank, 'world_size': world_size}


def _environment_from_slurm(port: int | None) -> None:
    """Translate Slurm's variables into those that torch.distributed reads, as BasicSR does."""
    command = ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']]
    hosts = subprocess.run(command, check=True, capture_output=True, text=True)
    if port is not None:
        os.environ['MASTER_PORT'] = str(port)
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ['MASTER_ADDR'] = hosts.stdout.split()[0]
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ['RANK'] = os.environ['SLURM_PROCID']
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', '0')


@patch(
    fault='model_to_device gives DistributedDataParallel a CUDA device, also on the CPU',
    upstream='BasicSR #107',
    module='basicsr.models.base_model',
)
def distribute_without_cuda() -> bool:
    """Wrap a network on the CPU in DistributedDataParallel without device_ids."""
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    @replaces(BaseModel, 'model_to_device')
    def model_to_device(original, self, net):
        if not (self.opt['dist'] and self.device.type == 'cpu'):
            return original(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    return True
