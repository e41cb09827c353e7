"""Saving a training, leaving on a signal, and resuming exactly."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from c2fdft_arch.common import distributed
from c2fdft_arch.common.atomic_write import remove_leftovers
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.checkpointing.best_results import missed_data_sets, record_of_best, results_at
from c2fdft_model.checkpointing.checkpoint_files import (
    CheckpointError,
    Checkpoints,
    network_file,
    other_network,
    saved_iterations,
)
from c2fdft_model.checkpointing.overrides import override_state
from c2fdft_model.checkpointing.random_states import random_states, restore_random_states
from c2fdft_model.checkpointing.run_description import RUN_KEY, ResumeError, RunDescription
from c2fdft_model.checkpointing.signal_handler import SignalHandler
from c2fdft_model.restoring.description import DESCRIPTION_KEY
from c2fdft_model.training.non_finite_guard import NonFiniteGuard
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.training.step import with_fusion_of
from c2fdft_model.training.training_log import TrainingLog

logger = logging.getLogger('basicsr')
LATEST = -1
"""BasicSR's iteration number for the end of a training: `net_g_latest.pth`, no training state."""


@dataclass(eq=False)
class Checkpointing:
    """Saves one training, ends it on a signal, and resumes it.

    `begin_iteration` and `end_iteration` stand around each iteration: between them nothing is
    consistent enough to be saved.
    """

    run: RunDescription
    options: TrainOptions
    networks: Mapping[str, nn.Module]
    """By the key of their weights in a checkpoint: `params` and, if averaged, `params_ema`."""
    optimizers: Sequence[torch.optim.Optimizer]
    schedulers: Sequence[torch.optim.lr_scheduler.LRScheduler]
    log: TrainingLog
    best_metric: str | None = None
    """See `record_of_best`."""
    best_results: dict[str, Any] = field(default_factory=dict)
    """BasicSR's `best_metric_results`."""
    iteration: int = 0
    """The last iteration that has begun."""
    has_ended: bool = False
    """Whether the network of the end has been saved."""

    def __post_init__(self) -> None:
        self.opt = self.run.opt
        folders = self.opt['path']['models'], self.opt['path']['training_states']
        self.checkpoints = Checkpoints(*folders, self.options.keep_last, logger.error)
        self.guard = NonFiniteGuard(
            self.options.max_bad_iterations,
            logger.error,
            self.checkpoints.last_good,
            self.checkpoints.newest_is_good,
        )
        self.signals = SignalHandler(self._leave, leave_at_once=not distributed.is_distributed())
        self._saved_iteration = 0
        self._epoch = 0
        self._validated: dict[str, int] = {}
        self._is_leaving = False
        if distributed.rank() == 0:
            for folder in folders:
                remove_leftovers(folder)

    def begin_iteration(self, iteration: int) -> None:
        """An iteration begins; the one before ends, if it has not."""
        self.end_iteration()
        self.signals.install()
        self.signals.block()
        self.iteration = iteration

    def end_iteration(self) -> None:
        """The iteration is over, its line in the log included: the process may leave from here."""
        self.signals.unblock()
        if self.guard.stop_requested:
            self._leave()

    @contextlib.contextmanager
    def between_iterations(self) -> Iterator[int]:
        """For a validation: its time does not count, and an OptionError in it loses no iteration.

        Gives the iteration that is validated.
        """
        self.end_iteration()
        with self.log.throughput.paused():
            try:
                yield self.iteration
            except OptionError:
                self._save_before_exit()
                raise

    def _leave(self) -> None:
        """Save the last iteration, unless it is, and end the process with the signal's code."""
        self._save_before_exit()
        if not self._is_leaving:  # else Python has dropped an exit, see SignalHandler
            logger.warning(
                f'Interrupted after iteration {self.iteration:,}. Last checkpoint: '
                f'{self.checkpoints.last()}. The same command with --auto_resume goes on from '
                'there.'
            )
        self._is_leaving = True
        raise SystemExit(self.signals.exit_code)

    def _save_before_exit(self) -> None:
        self.signals.block()
        self.guard.finish()
        if self.iteration > self._saved_iteration:
            self._save(self._epoch, self.iteration)

    def save(self, epoch: int, iteration: int) -> None:
        """Write the network and then the training state, each of them all or not at all.

        While iterations are skipped because they are not finite, only `net_g_latest.pth` is
        written: the weights are those of before, and may be what is wrong.
        """
        self.end_iteration()
        self.signals.block()
        self.guard.finish()
        if self.guard.bad_in_a_row:
            what = (
                'net_g_latest.pth has the weights of before, which may be damaged'
                if iteration == LATEST
                else f'No checkpoint is written after iteration {iteration:,}'
            )
            logger.warning(
                f'{what}: the last {self.guard.bad_in_a_row} iterations were not finite and '
                f'skipped. Last good checkpoint: {self.checkpoints.last_good()}.'
            )
        if iteration == LATEST:
            self._save_latest()
            self.has_ended = True
        elif not self.guard.bad_in_a_row:
            self._save(epoch, iteration)
        self.end_iteration()

    def _save(self, epoch: int, iteration: int) -> None:
        """Save now; signals are blocked, and the guard has finished."""
        with self.log.throughput.paused():
            known_epoch = self.log.epoch_of(iteration)
            state = {
                'epoch': epoch if known_epoch is None else known_epoch,
                'iter': iteration,
                'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
                'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
                RUN_KEY: self.run.options,
                'random_states': distributed.gather_objects(random_states()),
                'best_metric_results': self.best_results,
                'guard': {**self.guard.state_dict(), 'good_checkpoint': self.checkpoints.good},
            }
            if distributed.rank() == 0:
                self.checkpoints.save(iteration, self._network_content(), state)
            distributed.barrier()
        self._saved_iteration = iteration

    def _save_latest(self) -> None:
        """Save the last network. Raises CheckpointError in all ranks if that could not be done."""
        lost: dict[str, str] = {}
        last = ''
        if distributed.rank() == 0:
            self.checkpoints.save('latest', self._network_content())
            lost, last = self.checkpoints.not_written, self.checkpoints.last()
        lost, last = distributed.broadcast_object((lost, last))
        # No iteration follows that could show that the last checkpoint is good.
        parameters = self.networks['params'].parameters()
        if not self.guard.bad_in_a_row and all(p.isfinite().all() for p in parameters):
            self.checkpoints.newest_is_good()
        self.signals.remove()
        if lost.keys() & {'latest', 'best'}:
            named = '; '.join(f'net_g_{label}.pth: {reason}' for label, reason in lost.items())
            raise CheckpointError(
                f'The training has ended, but not everything could be written ({named}). Last '
                f'checkpoint: {last}. Make room; the same command with --auto_resume goes on there.'
            )
        if lost:
            logger.warning(f'Checkpoints that could not be written: {", ".join(lost)}.')

    def save_best(self, dataset: str, iteration: int) -> None:
        """After a validation: save the best results so far, and the network if it has them."""
        self._validated[dataset] = iteration
        record = record_of_best(self.best_results, self.best_metric, self._validated)
        if distributed.rank() == 0:
            is_best = record['dataset'] == dataset and record['iteration'] == iteration
            self.checkpoints.save_best(self._network_content() if is_best else None, record)

    def _network_content(self) -> dict[str, Any]:
        """What a network's file holds: the weights, and what they say of themselves."""
        weights = {
            key: {name: value.detach().cpu() for name, value in network.state_dict().items()}
            for key, network in self.networks.items()
        }
        description = self.run.description.model_copy(update={'iteration': self.iteration})
        return {**weights, DESCRIPTION_KEY: description.to_plain()}

    def resume(
        self, state: dict[str, Any], load_optimizers: Callable[[dict[str, Any]], object]
    ) -> list[str]:
        """Resume a training state, and log what differs from the run that wrote it.

        `load_optimizers` is BasicSR's `resume_training`. Returns the keys of `datasets` whose
        validation the interrupted run missed. Raises ResumeError for the state of another network,
        stage, optimiser or schedule.
        """
        for problem in self.opt.get('resume_problems', ()):
            logger.warning(f'A newer training state is passed over: {problem}.')
        network = self.opt['path'].get('pretrain_network_g')
        is_own = network == str(network_file(self.opt['path']['models'], state['iter']))
        if is_own and (problem := other_network(state, network)):
            raise ResumeError(f'path: resume_state: {problem}: take an earlier checkpoint.')
        self.iteration = self._saved_iteration = state['iter']
        self._epoch = state['epoch']
        self.run.resume(state.get(RUN_KEY))
        state['optimizers'] = [
            with_fusion_of(optimizer, saved)
            for optimizer, saved in zip(self.optimizers, state['optimizers'], strict=True)
        ]
        overrides = self.options.override_on_resume
        override_state(state, self.optimizers, self.schedulers, overrides)
        load_optimizers(state)
        saved_random_states = state.get('random_states', [])
        if len(saved_random_states) == distributed.world_size():
            restore_random_states(saved_random_states[distributed.rank()])
        record = distributed.broadcast_object(self.checkpoints.record())
        in_state = state.get('best_metric_results', {})
        self.best_results.update(results_at(self.iteration, in_state, record))
        guard_state = state.get('guard', {})
        self.guard.load_state_dict(guard_state)
        self.checkpoints.newest = self.iteration
        self.checkpoints.good = guard_state.get('good_checkpoint')
        self._warn_of_other_states()
        return missed_data_sets(self.opt, self.iteration, record)

    def _warn_of_other_states(self) -> None:
        """Say if later states are on the disk, and if nothing is left to train."""
        folder = self.checkpoints.training_states
        later = [str(i) for i in saved_iterations(folder) if i > self.iteration]
        if later and not self.opt.get('auto_resume'):
            logger.warning(
                f'{folder} has training states of later iterations ({", ".join(later[::-1])}), of '
                'which --auto_resume would take the newest: remove them to go on from here '
                'another time.'
            )
        total = self.options.total_iter
        if total <= self.iteration:
            logger.warning(
                f'Nothing is left to train: train: total_iter is {total:,} and the training state '
                f'is of iteration {self.iteration:,}. Its network becomes net_g_latest.pth; to '
                'train on, raise total_iter.'
            )
