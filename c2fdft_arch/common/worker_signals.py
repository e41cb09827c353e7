"""Loader's workers outlive a signal to the process group, so that the training can save itself.

Slurm, systemd, `timeout` and Ctrl-C signal every process of a group. A worker that died of it would
leave the training without the batch that it waits for, in the middle of an iteration.
"""

import os
import signal
import threading

from torch.utils.data import get_worker_info

_shielded = False


def shield_worker() -> None:
    """In a loader's worker: ignore SIGINT, and SIGTERM unless it comes from the training process.

    The training ends its workers itself, and they end by themselves when it is gone. Elsewhere, and
    where the system does not say who sent a signal, nothing is done.
    """
    global _shielded
    if _shielded or get_worker_info() is None or not hasattr(signal, 'sigwaitinfo'):
        return
    _shielded = True
    # Blocked and waited for: PyTorch has a handler for SIGTERM in C, and threads of libraries
    # inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _obey_parent(parent: int) -> None:
    while True:
        received = signal.sigwaitinfo({signal.SIGTERM, signal.SIGINT})
        if received.si_signo == signal.SIGTERM and received.si_pid == parent:
            os._exit(0)
