"""The trainings that are compared: what each differs in, and how long each is."""

from dataclasses import dataclass, replace
from typing import Any

from c2fdft_arch.dft import DFT
from c2fdft_model.data.patch_cycle import PatchCycle
from c2fdft_model.diffusion.prediction import Prediction
from c2fdft_model.diffusion.process import DDPMProcess

# Equal numbers of pixels per iteration in every phase and in both stages: the fine stage calls the
# network S times on 1/S of the images (as the paper's batch sizes do: 360 and 96 with S = 4).
PATCHES, COARSE_BATCHES = (16, 32, 64), (64, 16, 4)
FIXED_PATCH = 32
STEPS = 4
# Iterations of a phase, of coarse training, and of the fine one: 10,000 of 270,000, and 90,000.
PHASES_PER_COARSE = 27
FINE_SHARE = 1 / 3
NETWORK: dict[str, Any] = {
    'dim': 16,
    'num_blocks': [1, 1, 1, 2],
    'heads': [1, 2, 4, 8],
    'ffn_factor': 4.0,
}
LEARNING_RATE = 1e-3
EMA_DECAY = 0.995
"""It warms up: else a fifth of the average of 324 iterations would be untrained weights."""
SWEEP_STEPS = (1, 2, 3, 4, 5, 10, 25, 50)
"""Numbers of network calls of Table 4, on a few images."""
TARGET_STEPS = (1, 2, 4, 10)
"""Numbers of network calls with which every coarse network is tested, on all images."""
CURVE_POINTS = 12
"""How often a training is tested on the way."""
SKIPS = {'noise': 'noisy', 'velocity': 'none', 'clean': 'degraded'}
"""What the network of each target adds its last convolution to."""
PSNR_WEIGHT, SSIM_BESIDE_PSNR = 0.01, 0.3
"""Weights of the demo's fine stage, in which PSNR stands for L1."""


@dataclass(frozen=True)
class Training:
    """One training of one network; a fine one starts from the coarse one `base`."""

    name: str
    title: str
    stage: str = 'coarse'
    length: float = 1.0  # of the coarse training's iterations
    base: str | None = None
    base_key: str = 'params_ema'
    patch_cycle: bool = True
    time_embedding: bool = True
    ssim_weight: float = 0.84
    ssim_data_range: float = 1.0
    psnr_weight: float = 0.0  # PSNR in place of L1
    grad_steps: int | None = None
    steps: int = STEPS
    target: Prediction = 'noise'

    @property
    def tested_steps(self) -> int:
        """Network calls with which the training is tested on the way."""
        return 1 if self.stage == 'coarse' and self.target == 'clean' else self.steps

    def process(self, steps: int) -> DDPMProcess:
        """The diffusion process, sampled in so many steps."""
        return DDPMProcess(sampling_steps=steps, prediction=self.target)

    def new_network(self) -> DFT:
        """An untrained network of the replication's size."""
        return DFT(**NETWORK, time_embedding=self.time_embedding, skip=SKIPS[self.target])

    def iterations(self, coarse_iterations: int) -> int:
        """Iterations, for that many of the coarse training."""
        return max(1, round(self.length * coarse_iterations))

    def cycle(self, coarse_iterations: int) -> PatchCycle:
        """Patches and batches by iteration."""
        calls = 1 if self.stage == 'coarse' else self.steps
        batches = [max(1, batch // calls) for batch in COARSE_BATCHES]
        phase = max(1, coarse_iterations // PHASES_PER_COARSE)
        if self.patch_cycle:
            return PatchCycle.build(PATCHES, batches, [phase])
        return PatchCycle.build([FIXED_PATCH], [batches[PATCHES.index(FIXED_PATCH)]], [phase])


def _fine(name: str, title: str, **settings) -> Training:
    return Training(name, title, 'fine', FINE_SHARE, 'coarse', **settings)


COARSE = Training('coarse', 'coarse')
FINE = _fine('fine', 'coarse, then fine')
LONGER = Training('coarse_longer', 'coarse for as long as both', length=1 + FINE_SHARE)
NO_TIME = Training('no_time_embedding', 'coarse without t embedding', time_embedding=False)
FIXED = Training('fixed_patch', f'coarse, {FIXED_PATCH} x {FIXED_PATCH} patches', patch_cycle=False)
BEYOND = (
    _fine('fine_ssim_0', 'fine, L1 alone (SSIM weight 0)', ssim_weight=0.0),
    _fine('fine_ssim_0.16', 'fine, SSIM weight 0.16', ssim_weight=0.16),
    _fine('fine_ssim_0.5', 'fine, SSIM weight 0.5', ssim_weight=0.5),
    _fine('fine_released', 'fine, the released constants of SSIM', ssim_data_range=127.5),
    _fine('fine_from_raw', 'fine, from the raw coarse weights', base_key='params'),
    _fine('fine_grad_1', 'fine, gradient through the last step only', grad_steps=1),
)


def _fine_of(target: Prediction, steps: int) -> Training:
    calls = 'one call' if steps == 1 else f'{steps} calls'
    base = COARSE.name if target == 'noise' else f'{target}_coarse'
    title = f'{target}: coarse, then fine with {calls}'
    return Training(
        f'{target}_fine_{steps}', title, 'fine', FINE_SHARE, base, steps=steps, target=target
    )


def _with_psnr(fine: Training) -> Training:
    return replace(
        fine,
        name=f'{fine.name}_psnr',
        title=f'{fine.title}, PSNR and SSIM',
        psnr_weight=PSNR_WEIGHT,
        ssim_weight=SSIM_BESIDE_PSNR,
    )


# The paper's target with its four calls is COARSE and FINE.
NOISE_FINE = tuple(_fine_of('noise', steps) for steps in (2, 1))
VELOCITY, CLEAN = (
    (
        Training(f'{target}_coarse', f'{target}: coarse', target=target),
        *(_fine_of(target, steps) for steps in (4, 2, 1)),
    )
    for target in ('velocity', 'clean')
)
LOSSES = tuple((fine, _with_psnr(fine)) for fine in (FINE, CLEAN[1], CLEAN[-1]))
"""Pairs that differ in the fine loss: the paper's target with four calls, the clean image with four
and with one."""
WITH_PSNR = tuple(training for _, training in LOSSES)
TRAININGS = {
    t.name: t
    for t in (
        *(COARSE, FINE, LONGER, NO_TIME, FIXED, *BEYOND, *NOISE_FINE),
        *(*VELOCITY, *CLEAN, *WITH_PSNR),
    )
}

Wave = tuple[tuple[Training, ...], ...]
"""Chains of trainings that need each other; a wave is done before the next one begins."""
COARSE_AND_FINE: Wave = ((COARSE, FINE),)
ROWS: dict[str, tuple[Wave, ...]] = {
    'tables': (COARSE_AND_FINE, ((LONGER,), (NO_TIME,)), ((FIXED,),)),
    'targets': (COARSE_AND_FINE, (NOISE_FINE, VELOCITY, CLEAN)),
    'losses': (COARSE_AND_FINE, (CLEAN,), tuple((training,) for training in WITH_PSNR)),
    'beyond': (COARSE_AND_FINE, tuple((training,) for training in BEYOND)),
}
"""What can be asked for: Tables 4 to 7 of the paper, what the network predicts, PSNR in the loss of
the fine stage, and what that stage is made of."""
