"""BasicSR 1.4.2 cannot build its perceptual loss with `criterion: l2`."""

import functools
import inspect

from c2fdft_model.plugin.patches.patch import MASTER, patch

MISSING = 'L2loss'


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
