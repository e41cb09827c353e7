"""BasicSR names W&B runs with a function that wandb 0.28 removed."""

import secrets
import string

from c2fdft_model.plugin.patches.patch import patch, replaces


@patch(
    fault='init_wandb_logger calls wandb.util.generate_id, which wandb 0.28 removed',
    upstream='no report; basicsr/utils/logger.py',
    module='basicsr.utils.logger',
)
def name_wandb_runs() -> bool:
    """Give wandb the function that BasicSR draws a run's name from, if it lacks it.

    Not before W&B is asked for: importing wandb takes seconds.
    """
    from basicsr.utils import logger

    @replaces(logger, 'init_wandb_logger')
    def init_wandb_logger(original, opt):
        import wandb

        if not hasattr(wandb.util, 'generate_id'):
            wandb.util.generate_id = _random_id
        return original(opt)

    return True


def _random_id(length: int = 8) -> str:
    """Lower-case letters and digits, as wandb drew them; independent of the training's seed."""
    return ''.join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))
