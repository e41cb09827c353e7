"""BasicSR does not know the spelling in which current PyTorch passes the local rank."""

import re
import sys

from c2fdft_model.plugin.patches.patch import patch, replaces


@patch(
    fault='torch.distributed.launch passes --local-rank, the parser knows --local_rank',
    upstream='BasicSR #626',
    module='basicsr.utils.options',
)
def accept_local_rank() -> bool:
    """Let `parse_options` understand `--local-rank` too."""
    from basicsr.utils import options

    @replaces(options, 'parse_options')
    def parse_either_spelling(parse_options, root_path, is_train=True):
        given = sys.argv
        sys.argv = [re.sub('^--local-rank(?=$|=)', '--local_rank', argument) for argument in given]
        try:
            return parse_options(root_path, is_train=is_train)
        finally:
            sys.argv = given

    return True
