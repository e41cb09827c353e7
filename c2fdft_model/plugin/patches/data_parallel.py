"""BasicSR distributes only networks on GPUs."""

import functools

from c2fdft_model.plugin.patches.patch import patch


@patch(
    fault='model_to_device gives DistributedDataParallel a CUDA device, also on the CPU',
    upstream='BasicSR #107',
    module='basicsr.models.base_model',
)
def distribute_without_cuda() -> bool:
    """Wrap a network on the CPU in DistributedDataParallel without device_ids."""
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    original = BaseModel.model_to_device

    @functools.wraps(original)
    def model_to_device(self, net):
        if not (self.opt['dist'] and self.device.type == 'cpu'):
            return original(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    BaseModel.model_to_device = model_to_device
    return True
