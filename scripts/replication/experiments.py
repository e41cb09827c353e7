"""The trainings that are compared: what each differs in, and how long each is."""

from dataclasses import dataclass

from c2fdft_model.data.patch_cycle import PatchCycle

# Equal numbers of pixels per iteration in every phase and in both stages: the fine stage calls the
# network four times on a quarter of the images (as the paper's batch sizes do: 360 and 96).
PATCHES, COARSE_BATCHES, FINE_BATCHES = (16, 32, 64), (64, 16, 4), (16, 4, 1)
FIXED_PATCH = 32
STEPS = 4
# Iterations of a phase, of coarse training, and of the fine one: 10,000 of 270,000, and 90,000.
PHASES_PER_COARSE = 27
FINE_SHARE = 1 / 3
NETWORK = {'dim': 16, 'num_blocks': [1, 1, 1, 2], 'heads': [1, 2, 4, 8], 'ffn_factor': 4.0}
LEARNING_RATE = 1e-3
EMA_DECAY = 0.995
SWEEP_STEPS = (1, 2, 3, 4, 5, 10, 25, 50)


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
    grad_steps: int | None = None
    steps: int = STEPS

    def iterations(self, coarse_iterations: int) -> int:
        """Iterations, for that many of the coarse training."""
        return max(1, round(self.length * coarse_iterations))

    def cycle(self, coarse_iterations: int) -> PatchCycle:
        """Patches and batches by iteration."""
        batches = COARSE_BATCHES if self.stage == 'coarse' else FINE_BATCHES
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
TRAININGS = {t.name: t for t in (COARSE, FINE, LONGER, NO_TIME, FIXED, *BEYOND)}

# Chains of trainings that need each other; each wave is done before the next one begins.
WAVES: dict[str, tuple[tuple[Training, ...], ...]] = {
    'Tables 4, 6 and 7': ((COARSE, FINE), (LONGER,), (NO_TIME,)),
    'Table 5': ((FIXED,),),
    'beyond the paper': tuple((training,) for training in BEYOND),
}
CORE_WAVE = 'Tables 4, 6 and 7'
