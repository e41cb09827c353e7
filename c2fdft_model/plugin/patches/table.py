"""The patches in the order in which they are applied, and the state of each."""

from collections.abc import Iterable

from c2fdft_model.plugin.patches.archiving import archive_until_begun, note_beginnings
from c2fdft_model.plugin.patches.builders import accept_adamw, compare_features_by_l2
from c2fdft_model.plugin.patches.copies import log_copies
from c2fdft_model.plugin.patches.iterations import announce_iterations
from c2fdft_model.plugin.patches.local_rank import accept_local_rank
from c2fdft_model.plugin.patches.option_check import check_option_files
from c2fdft_model.plugin.patches.patch import Patch, is_loaded
from c2fdft_model.plugin.patches.process_group import distribute_without_cuda, launch_without_cuda
from c2fdft_model.plugin.patches.registry_names import share_names
from c2fdft_model.plugin.patches.removed_modules import provide_distutils, provide_functional_tensor
from c2fdft_model.plugin.patches.resume import resume_without_cuda
from c2fdft_model.plugin.patches.run_lock import lock_run_folders
from c2fdft_model.plugin.patches.wandb_run_id import name_wandb_runs

BEFORE_IMPORT = (provide_functional_tensor, provide_distutils)
AFTER_IMPORT = (
    share_names,
    accept_adamw,
    compare_features_by_l2,
    resume_without_cuda,
    accept_local_rank,
    check_option_files,
    launch_without_cuda,
    distribute_without_cuda,
    name_wandb_runs,
    archive_until_begun,
    note_beginnings,
    lock_run_folders,
    log_copies,
)
ON_REQUEST = (announce_iterations,)


def before_import() -> None:
    """Apply what BasicSR needs before its own code runs. Raises RuntimeError, see `apply`."""
    apply(BEFORE_IMPORT)


def after_import() -> None:
    """Patch what has been imported of BasicSR. Raises RuntimeError, see `apply`."""
    apply(p for p in AFTER_IMPORT if p.state == 'not called' and is_loaded(p.module))


def modules() -> set[str]:
    """The modules of BasicSR that are patched once they are imported."""
    return {patch.module for patch in AFTER_IMPORT}


def apply(patches: Iterable[Patch]) -> None:
    """Apply all patches, also those after one that fails; then RuntimeError names what failed."""
    errors = []
    for patch in patches:
        try:
            patch()
        except Exception as error:
            errors.append(f'{patch.name}: {type(error).__name__}: {error}')
    if errors:
        raise RuntimeError('; '.join(errors))


def status() -> tuple[Patch, ...]:
    """Every patch with its state in this process: applied, not needed, not called or failed."""
    return (*BEFORE_IMPORT, *AFTER_IMPORT, *ON_REQUEST)
