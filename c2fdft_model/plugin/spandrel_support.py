"""The weights of DFT in spandrel, and so in the programs that load models with it (chaiNNer).

A model that is loaded from a file restores with the whole sampler, as `restore` does: seed 0, and
the diffusion process that the weights describe, or the paper's. Imported after spandrel.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchSupport,
    ImageModelDescriptor,
    ModelLoader,
    ModelTiling,
    SizeRequirements,
)
from torch import Tensor, nn

ID = 'C2F-DFT'
SIZE_MULTIPLE = 8
OURS = (
    'patch_embed.proj.weight',
    'encoder_level1.0.norm1.body.weight',
    'encoder_level1.0.attn.temperature',
    'encoder_level1.0.attn.qkv_dwconv.weight',
    'encoder_level1.0.ffn.project_in.weight',
    'encoder_level1.0.ffn.project_out.weight',
    'down3_4.body.0.weight',
    'latent.0.attn.temperature',
    'up4_3.body.0.weight',
    'reduce_chan_level2.weight',
    'decoder_level1.0.attn.temperature',
    'output.weight',
)
RESTORMERS = ('encoder_level1.0.ffn.dwconv.weight', 'refinement.0.norm1.body.weight')
"""Of Restormer, from which DFT has the other names."""


def is_dft(state_dict: Mapping[str, Any]) -> bool:
    """Whether these are parameters of DFT for RGB images: 6 channels in, 3 out."""
    if any(name in state_dict for name in RESTORMERS) or not all(n in state_dict for n in OURS):
        return False
    channels = state_dict['patch_embed.proj.weight'].shape[1], state_dict['output.weight'].shape[0]
    return channels == (6, 3)


class DescribedStateDict(dict):
    """The parameters of DFT, as spandrel hands them on, and where they come from."""

    path: Path


class DFTArchitecture(Architecture[nn.Module]):
    """Recognises the weights of DFT and loads them; released ones and those of this project."""

    def __init__(self) -> None:
        super().__init__(id=ID, detect=is_dft)

    def load(self, state_dict: Mapping[str, Tensor]) -> ImageModelDescriptor[nn.Module]:
        """The network, whose call restores an image. Raises WeightsError."""
        from c2fdft_model.diffusion.options import DiffusionOptions, build_process
        from c2fdft_model.restoring.checkpoint import Checkpoint, read_checkpoint
        from c2fdft_model.restoring.weights import build_network

        path = getattr(state_dict, 'path', None)
        said = None if path is None else read_checkpoint(path).description
        checkpoint = Checkpoint(path or Path('state_dict'), '', dict(state_dict), description=said)
        network = build_network(checkpoint)
        process = build_process(DiffusionOptions() if said is None else said.diffusion)
        dim = state_dict['patch_embed.proj.weight'].shape[0]
        return ImageModelDescriptor(
            network,
            dict(network.state_dict()),
            architecture=self,
            purpose='Restoration',
            tags=[f'{dim}dim', f'{len(process.timesteps)}calls'],
            supports_half=False,
            supports_bfloat16=False,
            scale=1,
            input_channels=3,
            output_channels=3,
            size_requirements=SizeRequirements(multiple_of=SIZE_MULTIPLE),
            tiling=ModelTiling.INTERNAL,
            call_fn=functools.partial(_restore, process=process),
        )


def _restore(network: nn.Module, image: Tensor, *, process: Any) -> Tensor:
    from c2fdft_model.restoring.restoration import restore

    return restore(network, image, process=process, precision='fp32')


def add_dft() -> None:
    """Add DFT to what spandrel recognises, once."""
    support = ArchSupport.from_architecture(DFTArchitecture())
    if not MAIN_REGISTRY.add(support, ignore_duplicates=True):
        return
    read = ModelLoader.load_state_dict_from_file

    @functools.wraps(read)
    def read_with_place(self: ModelLoader, path: str | Path) -> Any:
        """As spandrel reads it; of DFT also the place, since the description lies beside."""
        state_dict = read(self, path)
        if not is_dft(state_dict):
            return state_dict
        described = DescribedStateDict(state_dict)
        described.path = Path(path)
        return described

    ModelLoader.load_state_dict_from_file = read_with_place  # type: ignore[method-assign]
