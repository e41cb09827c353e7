"""BasicSR 1.4.2 builds no optimiser but Adam, and no perceptual loss with `criterion: l2`."""

import functools
import inspect

from c2fdft_model.plugin.patches.patch import MASTER, patch

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

    original = PerceptualLoss.__init__
    if MISSING not in original.__code__.co_names:
        return False

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        if bound.arguments.get('criterion') != 'l2':
            return original(self, *args, **kwargs)
        bound.arguments['criterion'] = 'l1'
        original(*bound.args, **bound.kwargs)
        self.criterion_type, self.criterion = 'l2', torch.nn.MSELoss()

    PerceptualLoss.__init__ = init
    return True
