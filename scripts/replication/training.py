"""One training with the plugin's stages, process, averaging and schedule; it can be interrupted."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_model.diffusion.named_noise import seed_for
from c2fdft_model.diffusion.noise_schedule import antithetic_timesteps
from c2fdft_model.training.ema import ModelEMA
from c2fdft_model.training.lr_scheduler import CosineAnnealingRestartCyclicLR
from c2fdft_model.training.stages import CoarseStage, FineStage
from replication import experiments
from replication.data import TrainingPairs
from replication.experiments import Training

SECONDS_BETWEEN_SAVES = 60.0


class Trainer:
    """A network in training; `run` goes on until it is done or told to stop."""

    def __init__(
        self,
        training: Training,
        seed: int,
        coarse_iterations: int,
        pairs: TrainingPairs,
        device: torch.device,
    ) -> None:
        self.training, self.seed, self.pairs, self.device = training, seed, pairs, device
        self.total = training.iterations(coarse_iterations)
        self.cycle = training.cycle(coarse_iterations)
        torch.manual_seed(seed)
        self.network = training.new_network().to(device)
        self.average = training.new_network().to(device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.stage = _stage(training, self.network)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=experiments.LEARNING_RATE,
            betas=(0.9, 0.999),
            weight_decay=1e-4,
        )
        self.scheduler = _scheduler(self.optimizer, training.stage, self.total)
        self.parts: dict[str, Any] = {
            'params': self.network,
            'params_ema': self.average,
            'optimizer': self.optimizer,
            'scheduler': self.scheduler,
        }
        self.done = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []

    def start_from(self, weights: dict[str, torch.Tensor]) -> None:
        """Begin with these weights instead of random ones."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def run(
        self,
        until: Callable[[], bool],
        save: Callable[[dict], object],
        test: Callable[[nn.Module], dict[str, float]] | None = None,
    ) -> bool:
        """Train; whether it is finished. `save` gets the state now and then, and at the end.

        `test` gets the averaged network `CURVE_POINTS` times; its time is not counted.
        """
        average = ModelEMA(self.average, self.network, experiments.EMA_DECAY, warmup=True)
        saved = time.monotonic()
        while self.done < self.total and not until():
            started = time.perf_counter()
            self._iterate(self.done + 1, average)
            self.done += 1
            self.seconds += time.perf_counter() - started
            if (
                test
                and self.done * experiments.CURVE_POINTS % self.total < experiments.CURVE_POINTS
            ):
                point = {'iteration': self.done, 'seconds': self.seconds}
                self.curve.append(test(self.average) | point)
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                save(self.state())
                saved = time.monotonic()
        save(self.state())
        return self.done == self.total

    def _iterate(self, iteration: int, average: ModelEMA) -> None:
        lq, gt = self.pairs.batch(self.seed, iteration, self.cycle.phase_at(iteration))
        generator = torch.Generator().manual_seed(seed_for(f'iteration {iteration}', self.seed))
        eps = torch.randn(gt.shape, generator=generator)
        t = antithetic_timesteps(len(gt), self.stage.process.num_timesteps, generator)
        terms = self.stage(*(x.to(self.device) for x in (lq, gt, eps, t)))
        loss = sum(terms.values())
        if not torch.isfinite(loss):
            raise FloatingPointError(f'{self.training.name}: the loss of {iteration} is {loss}.')
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        average.update(torch.zeros((), device=self.device), iteration)

    def state(self) -> dict[str, Any]:
        """Everything that `resume` needs; `params` and `params_ema` as in BasicSR's checkpoints."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {**parts, 'done': self.done, 'seconds': self.seconds, 'curve': self.curve}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.done, self.seconds = state['done'], state['seconds']
        self.curve = state.get('curve', [])


def save_state(path: Path, state: dict) -> None:
    """Write a state, all of it or nothing."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location='cpu', weights_only=True)


def _stage(training: Training, network: nn.Module) -> CoarseStage | FineStage:
    process = training.process(training.steps)
    if training.stage == 'coarse':
        return CoarseStage(network, process, nn.L1Loss())
    from basicsr.losses import build_loss

    weight, data_range = training.ssim_weight, training.ssim_data_range
    ssim_opt = {'type': 'SSIMLoss', 'loss_weight': weight, 'data_range': data_range}
    pixel_opt = {'type': 'L1Loss', 'loss_weight': 1 - weight, 'reduction': 'mean'}
    if training.psnr_weight:
        pixel_opt = {'type': 'PSNRLoss', 'loss_weight': training.psnr_weight}
    unit = {'l_ssim': build_loss(ssim_opt)} if weight else {}
    return FineStage(
        network, process, {'l_pix': build_loss(pixel_opt)}, unit, grad_steps=training.grad_steps
    )


def _scheduler(optimizer, stage: str, total: int) -> CosineAnnealingRestartCyclicLR:
    """The paper's two periods, scaled: the rate is kept for the first one, then falls."""
    first = max(1, round(total * (5 / 27 if stage == 'coarse' else 1 / 9)))
    lr = experiments.LEARNING_RATE
    lowest = lr / 30 if stage == 'coarse' else lr / 1000
    return CosineAnnealingRestartCyclicLR(
        optimizer, [first, max(1, total - first)], [1, 1], [lr, lowest]
    )
