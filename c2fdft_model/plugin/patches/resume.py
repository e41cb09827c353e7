"""BasicSR cannot resume without a GPU, and runs whatever code a training state contains."""

import inspect
import sys
import warnings

from c2fdft_model.plugin.patches.patch import patch, replace_everywhere, replaces
from c2fdft_model.plugin.patches.run_lock import lock_run


@patch(
    fault='resuming needs CUDA; states are unpickled without weights_only before PyTorch 2.6',
    upstream='BasicSR #107, PR #706',
    module='basicsr.train',
)
def resume_without_cuda() -> bool:
    """Replace `load_resume_state` in basicsr.train, and in a train.py that runs as a script.

    The script defines its own in `__main__`, after BasicSR was imported. `parse_options` is the
    last of BasicSR's functions that it calls before that one.
    """
    import basicsr.train
    from basicsr.utils import options

    @replaces(options, 'parse_options')
    def patch_script_and_parse(parse_options, root_path, is_train=True):
        _patch_script()
        return parse_options(root_path, is_train=is_train)

    replace_everywhere(basicsr.train.load_resume_state, load_resume_state)
    return True


def _patch_script() -> None:
    """Replace the running script's own `load_resume_state` if it asks for a GPU as BasicSR does."""
    script = sys.modules.get('__main__')
    function = getattr(script, 'load_resume_state', None)
    try:
        faulty = 'torch.cuda.current_device()' in inspect.getsource(function)  # type: ignore[arg-type]
    except (TypeError, OSError):  # no such function, or no source of it
        return
    if faulty:
        script.load_resume_state = load_resume_state  # type: ignore[union-attr]


def load_resume_state(opt: dict) -> dict | None:
    """Find and load the training state that this run continues; None for a fresh run.

    The state is loaded to the CPU, wherever it was written: optimisers move their own part to
    their parameters' device, and random states must stay on the CPU. With `--auto_resume` the
    newest state of the experiment's own folder is taken, whatever the working directory is; one
    that is damaged, or whose network is, is passed over with a warning.

    Raises FileNotFoundError, ValueError naming a file that is not a training state, or
    RunInProgress if another process trains under the same name.
    """
    from basicsr.utils import check_resume

    from c2fdft_model.checkpointing.checkpoint_files import read_training_state

    lock_run(opt)

    path = _newest_whole_state(opt) if opt['auto_resume'] else opt['path'].get('resume_state')
    if not path:
        return None
    opt['path']['resume_state'] = path
    state = read_training_state(path)
    check_resume(opt, state['iter'])
    return state


def _newest_whole_state(opt: dict) -> str | None:
    """The file of the newest state that can be read, as can its network."""
    from c2fdft_model.checkpointing.checkpoint_files import resumable_iterations, state_file

    folder, models = opt['path']['training_states'], opt['path']['models']
    problems: list[str] = []
    iteration = next(resumable_iterations(folder, models, problems.append), None)
    outcome = 'training starts anew' if iteration is None else f'iteration {iteration} is used'
    for problem in problems:
        warnings.warn(f'--auto_resume: {problem}; {outcome}.', RuntimeWarning, stacklevel=2)
    # There is no log yet: BasicSR writes all options into it when there is, our model the problems.
    opt['resume_problems'] = problems
    return None if iteration is None else str(state_file(folder, iteration))
