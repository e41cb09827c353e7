"""BasicSR does not know the spelling in which current PyTorch passes the local rank."""

import functools
import re
import sys

from c2fdft_model.plugin.patches.patch import patch, replace_everywhere


@patch(
    fault='torch.distributed.launch passes --local-rank, the parser knows --local_rank',
    upstream='BasicSR #626',
    module='basicsr.utils.options',
)
def accept_local_rank() -> bool:
    """Let `parse_options` understand `--local-rank` too."""
    from basicsr.utils import options

    parse_options = options.parse_options

    @functools.wraps(parse_options)
    def parse_either_spelling(root_path, is_train=True):
        given = sys.argv
        sys.argv = [re.sub('^--local-rank(?=$|=)', '--local_rank', argument) for argument in given]
        try:
            return parse_options(root_path, is_train=is_train)
        finally:
            sys.argv = given

    replace_everywhere(parse_options, parse_either_spelling)
    return True
