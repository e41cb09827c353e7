"""Writing checkpoints so that a crash at any moment leaves whole files only, and finding them.

An iteration is saved as two files, BasicSR's: the network `models/net_g_<i>.pth` and, after it, the
training state `training_states/<i>.state`. A state therefore never exists without its network.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

PathLike = str | os.PathLike[str]
STATE_SUFFIX = '.state'
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError,
)  # fmt: skip
"""What `torch.load` raises for a file that is damaged or is no checkpoint."""


def network_file(models: PathLike, iteration: int | str) -> Path:
    """Where BasicSR keeps the network of an iteration, or of `latest` and `best`."""
    return Path(models) / f'net_g_{iteration}.pth'


def state_file(training_states: PathLike, iteration: int) -> Path:
    """Where BasicSR keeps the training state of an iteration."""
    return Path(training_states) / f'{iteration}{STATE_SUFFIX}'


def save_checkpoint(content: Mapping[str, Any], path: PathLike) -> None:
    """Write what `torch.save` takes, all of it or nothing. Raises OSError."""
    try:
        _write(path, lambda stream: torch.save(content, stream))
    except RuntimeError as error:  # what torch.save makes of a full disk
        raise OSError(f'{path}: {error}') from error


def save_json(content: Mapping[str, Any], path: PathLike) -> None:
    """Write a JSON file, all of it or nothing. Raises OSError."""
    text = json.dumps(content, indent=2) + '\n'
    _write(path, lambda stream: stream.write(text.encode()))


def read_json(path: PathLike) -> dict[str, Any]:
    """A JSON object from a file; empty if the file is missing or damaged."""
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: PathLike, write: Callable[[Any], object]) -> None:
    """Write beside the file, sync, rename: `path` is the old file or the new one, never a part."""
    path = Path(path)
    # BasicSR takes no file for a checkpoint that begins with a dot.
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'wb') as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Some systems cannot open a folder; the rename is then as safe as they make it.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_temporaries(*folders: PathLike) -> None:
    """Remove what writers that were killed have left behind."""
    for folder in folders:
        for leftover in Path(folder).glob('.*.tmp'):
            if re.fullmatch(r'\..+\.(pth|state|json)\.\d+\.tmp', leftover.name):
                leftover.unlink(missing_ok=True)


def read_training_state(path: str) -> dict:
    """Load a `.state` file to the CPU, without running code that it might contain.

    Raises FileNotFoundError, or ValueError naming a file that is not a training state.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'path: resume_state: there is no file {path}')
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f'path: resume_state: {path} cannot be read as a training state '
            f'({type(error).__name__}: {error})'
        ) from error
    if not isinstance(state, dict) or not {'iter', 'epoch'} <= state.keys():
        raise ValueError(f'path: resume_state: {path} is no training state of BasicSR')
    return state


def saved_iterations(training_states: PathLike) -> list[int]:
    """The iterations that have a training state, newest first."""
    folder = Path(training_states)
    if not folder.is_dir():
        return []
    stems = [path.name[: -len(STATE_SUFFIX)] for path in folder.glob(f'*{STATE_SUFFIX}')]
    return sorted((int(stem) for stem in stems if stem.isdigit()), reverse=True)


def damage(path: PathLike) -> str:
    """What keeps a checkpoint from being read, in words; empty if it is whole."""
    path = Path(path)
    if not path.is_file():
        return f'{path} is missing'
    try:
        # Reads the table of contents, which ends the file, and maps the rest.
        torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ''
        return f'{path} cannot be read ({type(error).__name__}: {reason[:200]})'
    return ''


def resumable_iterations(
    training_states: PathLike, models: PathLike, skipped: Callable[[str], object]
) -> Iterator[int]:
    """Iterations whose state and network are both whole, newest first.

    Each one that is not is reported to `skipped` in words.
    """
    for iteration in saved_iterations(training_states):
        problem = damage(state_file(training_states, iteration)) or damage(
            network_file(models, iteration)
        )
        if problem:
            skipped(problem)
        else:
            yield iteration


def prune(
    training_states: PathLike,
    models: PathLike,
    keep_last: int,
    newest: int | None = None,
    spared: int | None = None,
) -> list[int]:
    """Remove all but the newest `keep_last` iterations; returns those that were removed.

    `spared` stays too. Iterations above `newest`, if it is given, are left alone and not counted:
    a run that goes on from an earlier state has not come to them yet.

    The state goes first, so that a crash in between leaves no state without a network. Files
    without a number (`net_g_latest.pth`, `net_g_best.pth`) stay.
    """
    counted = [i for i in saved_iterations(training_states) if newest is None or i <= newest]
    removed = [iteration for iteration in counted[keep_last:] if iteration != spared]
    for iteration in removed:
        state_file(training_states, iteration).unlink(missing_ok=True)
        network_file(models, iteration).unlink(missing_ok=True)
    return removed


class Checkpoints:
    """The checkpoints of one run, in BasicSR's folders.

    `keep_last`: how many of them to keep, None for all. `complain` takes a text when one cannot be
    written, after which training goes on: a full disk may be emptied, a lost run not.

    A checkpoint is good once an iteration that began with its weights was finite: the step before
    it was saved may have ruined them, which only the next iteration tells. The newest good one is
    kept, whatever `keep_last` says.
    """

    def __init__(
        self,
        models: PathLike,
        training_states: PathLike,
        keep_last: int | None,
        complain: Callable[[str], object],
    ) -> None:
        self.models = models
        self.training_states = training_states
        self.keep_last = keep_last
        self.newest: int | None = None
        self.good: int | None = None
        self._complain = complain

    def tidy(self) -> None:
        """Remove what a process that was killed while saving has left behind."""
        remove_temporaries(self.models, self.training_states)

    def save(
        self, label: int | str, network: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> bool:
        """Write the network and then the state of an iteration; whether both could be."""
        try:
            save_checkpoint(network, network_file(self.models, label))
            if state is not None:
                save_checkpoint(state, state_file(self.training_states, int(label)))
        except OSError as error:
            self._complain(
                f'Checkpoint {label} could not be written: {error}. Training goes on; last '
                f'checkpoint: {self.last()}.'
            )
            return False
        if state is not None:
            self.newest = int(label)
            self._prune()
        return True

    def resumed(self, iteration: int, good: int | None) -> None:
        """Training goes on from the checkpoint of `iteration`; `good` is the newest good one."""
        self.newest, self.good = iteration, good

    def newest_is_good(self) -> None:
        """An iteration that began with the newest checkpoint's weights was finite."""
        if self.newest != self.good:
            self.good = self.newest
            self._prune()

    def _prune(self) -> None:
        if self.keep_last:
            prune(self.training_states, self.models, self.keep_last, self.newest, self.good)

    def save_best(self, network: Mapping[str, Any] | None, record: Mapping[str, Any]) -> None:
        """Write the record of the best results and, unless None, the network that has them.

        Like `save`, this only complains if they cannot be written.
        """
        if network is not None and not self.save('best', network):
            return
        try:
            save_json(record, self._record_file())
        except OSError as error:
            self._complain(
                f'The best results could not be written: {self._record_file()}: {error}. '
                'Training goes on.'
            )

    def record(self) -> dict[str, Any]:
        """The record of the best results; empty if there is none."""
        return read_json(self._record_file())

    def saved(self) -> list[int]:
        """The iterations that have a training state, newest first."""
        return saved_iterations(self.training_states)

    def last(self) -> str:
        """The newest checkpoint from which training can go on, for a message."""
        iterations = self.saved()
        return str(network_file(self.models, iterations[0])) if iterations else 'none yet'

    def last_good(self) -> str:
        """The newest good checkpoint, for a message."""
        if self.good is None or not state_file(self.training_states, self.good).exists():
            return 'none (after none of them an iteration was finite)'
        return str(network_file(self.models, self.good))

    def _record_file(self) -> Path:
        return network_file(self.models, 'best').with_suffix('.json')


def network_content(networks: Mapping[str, nn.Module]) -> dict[str, dict[str, torch.Tensor]]:
    """The parameters of networks by key (`params`, `params_ema`), as BasicSR saves them."""
    return {
        key: {name: value.detach().cpu() for name, value in network.state_dict().items()}
        for key, network in networks.items()
    }
