"""BasicSR renames the folder of a run that is still going on when a second of its name starts."""

from c2fdft_model.plugin.patches.patch import patch, replaces


@patch(
    fault='two runs of one name write into one folder',
    upstream='none',
    module='basicsr.utils.misc',
)
def lock_run_folders() -> bool:
    """Claim the folder of a training or test before BasicSR renames an earlier one.

    A training that resumes claims it in `load_resume_state`.
    """
    from basicsr import utils

    @replaces(utils, 'make_exp_dirs')
    def lock_and_make(make_exp_dirs, opt):
        lock_run(opt)
        make_exp_dirs(opt)

    return True


def lock_run(opt: dict) -> None:
    """Claim the folder of a run in its first rank. Raises RunInProgress, see `lock_folder`."""
    from c2fdft_model.checkpointing.run_lock import lock_folder

    folder = opt['path'].get('experiments_root') or opt['path'].get('results_root')
    if opt['rank'] == 0 and folder:
        lock_folder(folder)
