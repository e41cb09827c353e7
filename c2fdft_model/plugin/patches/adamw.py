"""BasicSR 1.4.2 builds no optimiser but Adam."""

import functools

from c2fdft_model.plugin.patches.patch import MASTER, patch


@patch(
    fault='get_optimizer accepts only Adam',
    upstream='BasicSR commit 18a2987',
    fixed_in=MASTER,
    module='basicsr.models.base_model',
)
def accept_adamw() -> bool:
    """Let `optim_g: type: AdamW` build torch.optim.AdamW."""
    import torch
    from basicsr.models.base_model import BaseModel

    original = BaseModel.get_optimizer
    probe = [torch.nn.Parameter(torch.zeros(1))]
    try:
        original(None, 'AdamW', probe, 1e-3)
        return False
    except NotImplementedError:
        pass

    @functools.wraps(original)
    def get_optimizer(self, optim_type, params, lr, **kwargs):
        if optim_type == 'AdamW':
            return torch.optim.AdamW(params, lr, **kwargs)
        return original(self, optim_type, params, lr, **kwargs)

    BaseModel.get_optimizer = get_optimizer
    return True
