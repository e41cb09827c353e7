"""Checkpoints on disk: each file is there whole or not at all, whenever the process is killed.

An iteration is saved as BasicSR's two files: the network `models/net_g_<i>.pth` and, after it, the
training state `training_states/<i>.state`. A state therefore never exists without its network.
"""

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from c2fdft_arch.common import distributed
from c2fdft_arch.common.atomic_write import replacing, write_bytes
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.restoring.checkpoint import UNREADABLE, file_digest
from c2fdft_model.restoring.file_kinds import kind_of

PathLike = str | os.PathLike[str]
_STATE_NAME = re.compile(r'([0-9]{1,12})\.state')
NETWORK_DIGEST = 'network_sha256'
"""In a training state: the SHA-256 of the network's file that was saved with it."""


class CheckpointError(C2FDFTError, OSError):
    """The last network could not be written; the text says why and what is left."""


class TrainingStateError(C2FDFTError, ValueError):
    """A file is no training state, or a damaged one; the text names it and says what to do."""


def network_file(models: PathLike, iteration: int | str) -> Path:
    """Where BasicSR keeps the network of an iteration, or of `latest` and `best`."""
    return Path(models) / f'net_g_{iteration}.pth'


def state_file(training_states: PathLike, iteration: int) -> Path:
    """Where BasicSR keeps the training state of an iteration."""
    return Path(training_states) / f'{iteration}.state'


def save_checkpoint(content: Mapping[str, Any], path: PathLike) -> None:
    """Write what `torch.save` takes, all of it or nothing. Raises OSError."""
    try:
        with replacing(path, durable=True) as new, open(new, 'wb') as stream:
            torch.save(content, stream)
    except RuntimeError as error:  # what torch.save makes of a full disk
        raise OSError(f'{path}: {error}') from error


def read_training_state(path: str) -> dict:
    """Load a `.state` file to the CPU, without running code that it might contain.

    Raises FileNotFoundError, or TrainingStateError for a file that is not a whole training state.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'path: resume_state: there is no file {path}')
    if problem := damage(path):
        raise TrainingStateError(
            f'path: resume_state: {problem}; give an earlier one, or --auto_resume'
        )
    state = torch.load(path, map_location='cpu', weights_only=True)
    if not isinstance(state, dict) or not {'iter', 'epoch'} <= state.keys():
        raise TrainingStateError(f'path: resume_state: {path} is no training state of BasicSR')
    return state


def saved_iterations(training_states: PathLike) -> list[int]:
    """The iterations that have a training state, newest first, whatever else is in the folder."""
    names = [path.name for path in Path(training_states).glob('*.state')]
    matches = map(_STATE_NAME.fullmatch, names)
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def damage(path: PathLike) -> str:
    """What keeps a checkpoint from being read, in words; empty if every bit of it is as written."""
    path = Path(path)
    if not path.is_file():
        return f'{path} is missing'
    try:
        # PyTorch writes a checksum for each part of the file and does not look at it when reading.
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if part := archive.testzip():
                    return f'{path} is damaged: the checksum of {part} is wrong'
        torch.load(path, map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, zipfile.BadZipFile, *UNREADABLE) as error:
        if kind := kind_of(path):
            return f'{path} cannot be read: it {kind}'
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ''
        return f'{path} cannot be read ({type(error).__name__}: {reason[:200]})'
    return ''


def damage_of_pair(state: PathLike, network: PathLike) -> str:
    """What keeps a training state and its network from being resumed; empty if nothing does."""
    if problem := damage(state) or damage(network):
        return problem
    content = torch.load(state, map_location='cpu', weights_only=True)
    return other_network(content, network) if isinstance(content, dict) else ''


def other_network(state: Mapping[str, Any], network: PathLike) -> str:
    """Whether a network's file is another than the one saved with a training state, in words."""
    digest = state.get(NETWORK_DIGEST)
    if digest in (None, file_digest(Path(network))):
        return ''
    return f'{network} is not the network that was saved with the training state (SHA-256 differs)'


def resumable_iterations(
    training_states: PathLike, models: PathLike, skipped: Callable[[str], object]
) -> Iterator[int]:
    """Iterations whose state and network are both whole and of one another, newest first.

    Each one that is not is reported to `skipped` in words.
    """
    for iteration in saved_iterations(training_states):
        files = state_file(training_states, iteration), network_file(models, iteration)
        if problem := damage_of_pair(*files):
            skipped(problem)
        else:
            yield iteration


@dataclass
class Checkpoints:
    """The checkpoints of one run, in BasicSR's folders; rank 0 writes them.

    A checkpoint is known to be good once an iteration that began with its weights was finite: the
    last step before it was saved may have ruined them. The last one known to be good is kept,
    whatever `keep_last` says.
    """

    models: PathLike
    training_states: PathLike
    keep_last: int | None
    """How many to keep; None for all."""
    report: Callable[[str], object]
    """Takes a text if one cannot be written. Training goes on: there may be space again later."""
    not_written: dict[str, str] = field(default_factory=dict)
    """Labels of checkpoints that could not be written, and have not been since, and why."""
    newest: int | None = None
    good: int | None = None

    def save(
        self, label: int | str, network: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> bool:
        """Write the network and then the state of an iteration; whether both could be."""
        try:
            file = network_file(self.models, label)
            save_checkpoint(network, file)
            if state is not None:
                state = {**state, NETWORK_DIGEST: file_digest(file)}
                save_checkpoint(state, state_file(self.training_states, int(label)))
        except OSError as error:
            self.not_written[str(label)] = f'{error}'
            self.report(
                f'Checkpoint {label} could not be written: {error}. Last checkpoint: {self.last()}.'
            )
            return False
        self.not_written.pop(str(label), None)
        if state is not None:
            self.newest = int(label)
            self._prune()
        return True

    def newest_is_good(self) -> None:
        """An iteration that began with the newest checkpoint's weights was finite."""
        if self.newest != self.good and distributed.rank() == 0:
            self.good = self.newest
            self._prune()

    def _prune(self) -> None:
        """Remove all but the newest `keep_last` iterations and the last one known to be good.

        Iterations above the newest are not counted and stay: a run that was resumed from an earlier
        state has not come to them yet. The state goes first, so that a crash in between leaves no
        state without its network.
        """
        if not self.keep_last or self.newest is None:
            return
        counted = [i for i in saved_iterations(self.training_states) if i <= self.newest]
        for iteration in counted[self.keep_last :]:
            if iteration != self.good:
                state_file(self.training_states, iteration).unlink(missing_ok=True)
                network_file(self.models, iteration).unlink(missing_ok=True)

    def save_best(self, network: Mapping[str, Any] | None, record: Mapping[str, Any]) -> None:
        """Write the record of the best results and, unless None, the network that has them.

        Like `save`, this only reports if they cannot be written.
        """
        if network is not None and not self.save('best', network):
            return
        try:
            text = json.dumps(record, indent=2) + '\n'
            write_bytes(self._record_file(), text.encode(), durable=True)
        except OSError as error:
            self.report(
                f'The best results could not be written: {self._record_file()}: {error}. '
                'Training goes on.'
            )

    def record(self) -> dict[str, Any]:
        """The record of the best results; empty if it is missing or damaged."""
        try:
            record = json.loads(self._record_file().read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def last(self) -> str:
        """The newest checkpoint from which training can go on, for a message."""
        iterations = saved_iterations(self.training_states)
        return str(network_file(self.models, iterations[0])) if iterations else 'none yet'

    def last_good(self) -> str:
        """The last checkpoint known to be good, for a message; the same in every rank."""
        text = 'none (after none of them an iteration was finite)'
        if self.good is not None and state_file(self.training_states, self.good).exists():
            text = str(network_file(self.models, self.good))
        return distributed.broadcast_object(text)

    def _record_file(self) -> Path:
        return network_file(self.models, 'best').with_suffix('.json')
