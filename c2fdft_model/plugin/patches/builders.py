"""BasicSR 1.4.2 builds no optimiser but Adam, and no perceptual loss with `criterion: l2`."""

import inspect

from c2fdft_model.plugin.patches.patch import MASTER, patch, replaces

MISSING = 'L2loss'


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

    probe = [torch.nn.Parameter(torch.zeros(1))]
    try:
        BaseModel.get_optimizer(None, 'AdamW', probe, 1e-3)
        return False
    except NotImplementedError:
        pass

    @replaces(BaseModel, 'get_optimizer')
    def get_optimizer(original, self, optim_type, params, lr, **kwargs):
        if optim_type == 'AdamW':
            return torch.optim.AdamW(params, lr, **kwargs)
        return original(self, optim_type, params, lr, **kwargs)

    return True


@patch(
    fault='PerceptualLoss with criterion: l2 builds torch.nn.L2loss, which does not exist',
    upstream='BasicSR #570',
    fixed_in=MASTER,
    module='basicsr.losses.basic_loss',
)
def compare_features_by_l2() -> bool:
    """Let `perceptual_opt: criterion: l2` take the mean squared error of the features."""
    import torch
    from basicsr.losses.basic_loss import PerceptualLoss

    if MISSING not in PerceptualLoss.__init__.__code__.co_names:
        return False

    @replaces(PerceptualLoss, '__init__')
    def init(original, self, *args, **kwargs):
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        if bound.arguments.get('criterion') != 'l2':
            return original(self, *args, **kwargs)
        bound.arguments['criterion'] = 'l1'
        original(*bound.args, **bound.kwargs)
        self.criterion_type, self.criterion = 'l2', torch.nn.MSELoss()

    return True
