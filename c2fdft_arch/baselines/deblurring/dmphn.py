"""DMPHN: from the smallest patches of an image to the whole, each level correcting the one below.

Zhang, Dai, Li and Koniusz, "Deep Stacked Hierarchical Multi-Patch Network for Image Deblurring"
(CVPR 2019).
"""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.blocks.convolutions import Residual, conv3x3
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)
from c2fdft_arch.common.messages import one_line
from c2fdft_arch.common.option_parsing import OptionError

ROWS, COLUMNS = -2, -1


def residual_block(channels: int) -> Residual:
    """Two 3x3 convolutions, and the input added."""
    return Residual(conv3x3(channels, channels), nn.ReLU(), conv3x3(channels, channels))


def numbered_layers(layers: dict[int, nn.Module]) -> nn.Sequential:
    """Layers called by their number in the paper's table of the network."""
    return nn.Sequential(OrderedDict((f'layer{k}', layer) for k, layer in layers.items()))


def encoder(channels: int) -> nn.Sequential:
    """Features with four times `channels` at a quarter of the size, of an image."""
    return numbered_layers(
        {
            1: conv3x3(RGB, channels),
            2: residual_block(channels),
            3: residual_block(channels),
            5: nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            6: residual_block(2 * channels),
            7: residual_block(2 * channels),
            9: nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1),
            10: residual_block(4 * channels),
            11: residual_block(4 * channels),
        }
    )


def decoder(channels: int) -> nn.Sequential:
    """An image at four times the size, of such features."""
    return numbered_layers(
        {
            13: residual_block(4 * channels),
            14: residual_block(4 * channels),
            16: nn.ConvTranspose2d(4 * channels, 2 * channels, 4, stride=2, padding=1),
            17: residual_block(2 * channels),
            18: residual_block(2 * channels),
            20: nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
            21: residual_block(channels),
            22: residual_block(channels),
            24: conv3x3(channels, RGB),
        }
    )


class DMPHN(RestorationNetwork):
    """DMPHN(1-2-4) with `levels: 3`, (1-2-4-8) with 4; `stacks: 4` is Stack(4)-DMPHN.

    Level k sees the image in 2^(k-1) patches, halved by rows and columns in turn. `weights` is a
    folder of published weights, which are a file `encoder_lv1.pkl` and so on for each part. All
    outputs: the images of the stacks, the last first.

    Raises OptionError for a folder without these files.
    """

    def __init__(
        self,
        levels: int = 4,
        stacks: int = 1,
        channels: int = 32,
        weights: str | None = None,
        all_outputs: bool = False,
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('DMPHN', 1, stacks=stacks, channels=channels)
        check_at_least('DMPHN', 2, levels=levels)
        self.levels, self.stacks = levels, stacks
        self.size_multiple = 4 * 2 ** (levels // 2)
        for stack in range(1, stacks + 1):
            for level in range(1, levels + 1):
                self.add_module(self._name('encoder', stack, level), encoder(channels))
                self.add_module(self._name('decoder', stack, level), decoder(channels))
        if weights is not None:
            self._load(Path(weights))

    def restore(self, image: Tensor) -> list[Tensor]:
        """The images of all stacks, the last first."""
        images = [image - 0.5]
        features: list[Tensor] = []
        for stack in range(1, self.stacks + 1):
            restored, features = self._restore(stack, images, features)
            images.append(restored)
        return [restored + 0.5 for restored in images[:0:-1]]

    def _restore(
        self, stack: int, images: list[Tensor], earlier: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """A stack's image, and its features by level from the smallest patches on.

        `images` are the blurred one and those of the stacks before, `earlier` the features of the
        last of these.
        """
        patches = [images[-1]]
        for level in range(2, self.levels + 1):
            patches.append(split(patches[-1], axis_of(level)))
        features: list[Tensor] = []
        correction: Tensor | None = None
        for level in range(self.levels, 0, -1):
            corrected = (
                patches[level - 1] if correction is None else patches[level - 1] + correction
            )
            encoded = self.get_submodule(self._name('encoder', stack, level))(corrected)
            if features:
                encoded = encoded + join(features[-1], axis_of(level + 1))
            if earlier:
                encoded = encoded + earlier[len(features)]
            features.append(encoded)
            joined = encoded if level == 1 else join(encoded, axis_of(level))
            correction = self.get_submodule(self._name('decoder', stack, level))(joined)
            if level == 2 and stack > 1:
                correction = correction + images[1]
        assert correction is not None
        return correction, features

    def _load(self, folder: Path) -> None:
        for name, part in self.named_children():
            path = folder / f'{name}.pkl'
            try:
                content = torch.load(path, map_location='cpu', weights_only=True)
                part.load_state_dict({k.removeprefix('module.'): v for k, v in content.items()})
            except Exception as error:
                raise OptionError(
                    f'network_g: DMPHN: weights: {path} cannot be loaded: {one_line(error)}'
                ) from error

    def _name(self, part: str, stack: int, level: int) -> str:
        """Of the part's file among the published checkpoints."""
        return f'{part}_lv{level}' if self.stacks == 1 else f'{part}_s{stack}_lv{level}'


def axis_of(level: int) -> int:
    """Along which the patches of the level above are halved to give those of this level."""
    return COLUMNS if level % 2 else ROWS


def split(x: Tensor, axis: int) -> Tensor:
    """(2B, ...), the first halves of all along an axis and then the second halves."""
    return torch.cat(x.chunk(2, dim=axis))


def join(x: Tensor, axis: int) -> Tensor:
    """(B, ...), the inverse of `split`."""
    return torch.cat(x.chunk(2), dim=axis)
