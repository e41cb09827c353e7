"""Saving a training, leaving on a signal, and going on exactly: a part of BasicSR models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from c2fdft_model.checkpointing import checkpoint_files, training_state
from c2fdft_model.checkpointing.checkpoint_files import Checkpoints, read_training_state
from c2fdft_model.checkpointing.signal_handler import SignalHandler
from c2fdft_model.data.training_clock import training_clock
from c2fdft_model.restoring.weights import WeightsError, load_into
from c2fdft_model.training import distributed, training_log
from c2fdft_model.training.non_finite_guard import NonFiniteGuard
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.validation.validation import missed_data_sets, results_at

logger = logging.getLogger('basicsr')
RESUME_ADVICE = (
    'Resume with the network_g that the state was written with, or start a new run (another name).'
)


class Resumable:
    """A mixin, placed before BasicSR's model class, that replaces its saving and resuming.

    Networks are `net_g` and, if there are averaged weights, `net_g_ema`. Whoever uses it calls
    `prepare_saving` at its set-up, `begin_iteration` and `end_iteration` around each iteration and
    sets `iteration` in between, and writes `best_metric_results`.
    """

    opt: dict[str, Any]
    train_options: TrainOptions
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[torch.optim.lr_scheduler.LRScheduler]
    net_g: nn.Module

    iteration = 0
    saved_iteration = 0
    epoch = 0
    missed_validations: tuple[str, ...] = ()
    best_metric_results: dict[str, Any]

    def describe_run(self) -> None:
        """Note what the options ask for, before BasicSR takes them apart.

        Raises ResumeError if the ranks do not go on from the same training state.
        """
        # Without manual_seed BasicSR draws another seed in every rank.
        self.opt['manual_seed'] = distributed.broadcast_object(self.opt['manual_seed'])
        state = str(self.opt['path'].get('resume_state') or 'none').rpartition('/')[2]
        training_state.check_ranks(distributed.gather_objects(state))
        self.run_description = training_state.describe_run(self.opt)

    def find_architecture(self, name: str) -> Callable[..., Any] | None:
        """What builds a network of this type; None if it is not known."""
        return None

    def prepare_saving(self) -> None:
        """Set up checkpoints, the guard, the handling of signals and the measuring of speed."""
        path = self.opt['path']
        self.checkpoints = Checkpoints(
            path['models'], path['training_states'], self.train_options.keep_last, logger.error
        )
        if self.opt['rank'] == 0:
            self.checkpoints.tidy()
        self.guard = NonFiniteGuard(
            self.train_options.max_bad_iterations,
            logger.error,
            self._last_good,
            self._newest_is_good,
        )
        self.interruption = SignalHandler(self._save_and_leave, not self.opt['dist'])
        self.throughput = training_log.Throughput()

    def _last_good(self) -> str:
        return distributed.broadcast_object(self.checkpoints.last_good())

    def _newest_is_good(self) -> None:
        if self.opt['rank'] == 0:
            self.checkpoints.newest_is_good()

    # --- iterations ---------------------------------------------------------------------------

    def begin_iteration(self) -> None:
        """From here to the iteration's end nothing is consistent enough to be saved."""
        self.end_iteration()
        self.interruption.install()
        self.interruption.begin()

    def end_iteration(self) -> None:
        """The iteration is over, its line in the log included: a training may leave from here."""
        self.interruption.end()
        if self.guard.stop_requested or (self.interruption.requested and not self.opt['dist']):
            self._save_and_leave()

    def _save_and_leave(self) -> None:
        """Save the last iteration, unless it is, and end the process with the signal's code."""
        self.save_unless_saved()
        logger.warning(
            f'Interrupted after iteration {self.iteration:,}. Last checkpoint: '
            f'{self.checkpoints.last()}. The same command with --auto_resume goes on from there.'
        )
        raise SystemExit(self.interruption.exit_code)

    # --- saving -------------------------------------------------------------------------------

    def save(self, epoch: int, current_iter: int) -> None:
        """Write the network and then the training state, each of them all or not at all.

        `current_iter` -1 is the end of the training: the network as `net_g_latest.pth`, no state.
        While iterations are skipped because they are not finite, nothing is written: the weights
        are those of before, and may be what is wrong.
        """
        self.end_iteration()
        self.interruption.begin()
        self.guard.finish()
        if self.guard.bad_in_a_row:
            self._warn_of_skipped(current_iter)
        if current_iter == -1 or not self.guard.bad_in_a_row:
            self._save(epoch, current_iter)
        self.end_iteration()

    def save_unless_saved(self) -> None:
        """Write the last iteration's network and training state; signals are only noted then on.

        For a process that is about to end.
        """
        self.interruption.begin()
        self.guard.finish()
        if self.iteration > self.saved_iteration:
            self._save(self.epoch, self.iteration)

    def _warn_of_skipped(self, current_iter: int) -> None:
        what = (
            'net_g_latest.pth has the weights of before, which may be damaged'
            if current_iter == -1
            else f'No checkpoint is written after iteration {current_iter:,}'
        )
        logger.warning(
            f'{what}: the last {self.guard.bad_in_a_row} iterations were not finite and skipped. '
            f'Last good checkpoint: {self._last_good()}.'
        )

    def _save(self, epoch: int, current_iter: int) -> None:
        """Save now; a signal is only noted meanwhile, and the guard has finished."""
        self.throughput.pause()
        state = None if current_iter == -1 else self._training_state(epoch, current_iter)
        if self.opt['rank'] == 0:
            label = 'latest' if current_iter == -1 else current_iter
            self.checkpoints.save(label, self.network_content(), state)
        distributed.barrier()
        self.saved_iteration = max(self.saved_iteration, current_iter)
        self.throughput.go_on()
        if current_iter == -1:
            self._end_checkpoints()
            self.interruption.remove()

    def _end_checkpoints(self) -> None:
        # No iteration follows that could show the last checkpoint good.
        if not self.guard.bad_in_a_row and all(p.isfinite().all() for p in self.net_g.parameters()):
            self._newest_is_good()

    def network_content(self) -> dict[str, dict[str, Tensor]]:
        """The parameters as BasicSR saves them: `params` and, if there are any, `params_ema`."""
        networks = {'params': self.net_g}
        if hasattr(self, 'net_g_ema'):
            networks['params_ema'] = self.net_g_ema
        return checkpoint_files.network_content(networks)

    def _training_state(self, epoch: int, current_iter: int) -> dict[str, Any]:
        known_epoch = training_log.epoch_of(self.opt, current_iter)
        return {
            'epoch': epoch if known_epoch is None else known_epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            training_state.RUN_KEY: self.run_description,
            training_state.RANDOM_KEY: distributed.gather_objects(training_state.random_states()),
            training_state.BEST_KEY: getattr(self, 'best_metric_results', {}),
            training_state.GUARD_KEY: {
                **self.guard.state_dict(),
                'good_checkpoint': self.checkpoints.good,
            },
        }

    # --- resuming -----------------------------------------------------------------------------

    def load_resumed(
        self,
        network: nn.Module,
        path: str,
        param_key: str,
        strict: bool,
        log: Callable[[str], object],
    ) -> None:
        """Load the network that was saved with the training state.

        Raises ResumeError, naming the options that differ, for a state of another network.
        """
        try:
            load_into(network, path, param_key, strict, log, RESUME_ADVICE)
        except WeightsError as error:
            # BasicSR loads the network before it hands out the state, which says more.
            state = read_training_state(self.opt['path']['resume_state'])
            saved_run = state.get(training_state.RUN_KEY)
            if saved_run is not None:
                self._notes_of_changes(saved_run)
            raise training_state.ResumeError(f'path: resume_state: {error}') from error

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Go on from a training state, and say what differs from the run that wrote it.

        Raises ResumeError for the state of another network, stage, optimiser or schedule.
        """
        for problem in self.opt.get('resume_problems', ()):
            logger.warning(f'A newer training state is passed over: {problem}.')
        self.iteration = self.saved_iteration = resume_state['iter']
        self.epoch = resume_state['epoch']
        self._compare_with_saved_run(resume_state.get(training_state.RUN_KEY))
        resume_state['optimizers'] = [
            training_state.with_fusion_of(optimizer, state)
            for optimizer, state in zip(self.optimizers, resume_state['optimizers'], strict=True)
        ]
        super().resume_training(resume_state)  # type: ignore[misc]
        random_states = resume_state.get(training_state.RANDOM_KEY, [])
        if len(random_states) == self.opt['world_size']:
            training_state.restore_random_states(random_states[self.opt['rank']])
        self._resume_best(resume_state.get(training_state.BEST_KEY, {}))
        self._resume_guard(resume_state.get(training_state.GUARD_KEY, {}))
        self._warn_if_nothing_is_left()

    def _compare_with_saved_run(self, saved_run: Mapping[str, Any] | None) -> None:
        if saved_run is None:
            logger.warning(
                'The training state is not one of this model: whether it was trained with these '
                'options cannot be told.'
            )
            return
        for note in self._notes_of_changes(saved_run):
            logger.warning(f'The resumed run was started with other options. {note}.')
        # Without manual_seed, BasicSR draws a new seed at every start.
        self.opt['manual_seed'] = self.run_description['manual_seed'] = saved_run['manual_seed']
        training_clock.start(self.opt)

    def _notes_of_changes(self, saved_run: Mapping[str, Any]) -> list[str]:
        return training_state.check_same_run(
            saved_run, self.run_description, self.find_architecture
        )

    def _warn_if_nothing_is_left(self) -> None:
        total = self.train_options.total_iter
        if total <= self.iteration:
            logger.warning(
                f'Nothing is left to train: train: total_iter is {total:,} and the training state '
                f'is of iteration {self.iteration:,}. Its network becomes net_g_latest.pth; to '
                'train on, raise total_iter.'
            )

    def _resume_best(self, in_state: Mapping[str, Any]) -> None:
        record = distributed.broadcast_object(self.checkpoints.record())
        self.best_metric_results = results_at(self.iteration, in_state, record)
        self.missed_validations = missed_data_sets(self.opt, self.iteration, record)

    def _resume_guard(self, in_state: Mapping[str, Any]) -> None:
        self.guard.load_state_dict(in_state)
        self.checkpoints.resumed(self.iteration, in_state.get('good_checkpoint'))
        newer = [i for i in self.checkpoints.saved() if i > self.iteration]
        if newer and not self.opt.get('auto_resume'):
            logger.warning(
                f'{self.opt["path"]["training_states"]} has training states of later iterations '
                f'({", ".join(map(str, reversed(newer)))}), of which --auto_resume would take the '
                'newest: remove them to go on from here another time.'
            )
