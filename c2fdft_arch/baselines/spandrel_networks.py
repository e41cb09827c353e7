"""The networks that the paper compares with, from spandrel and spandrel-extra-arches.

Both packages are optional (`pip install "c2fdft[baselines]"`) and imported when a network is built.
spandrel is MIT-licensed and holds architectures under permissive licences; spandrel-extra-arches is
the same wrapper around architectures that are free for non-commercial use only. The licence of
each architecture stands in `BASELINES`.
"""

import functools
import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.probing import final_image
from c2fdft_arch.common.option_parsing import OptionError, check_names
from c2fdft_arch.common.padding import pad_to_multiple

INSTALL = 'pip install "c2fdft[baselines]"'
PERMISSIVE, EXTRA = 'spandrel', 'spandrel_extra_arches'


@dataclass(frozen=True)
class Baseline:
    """Where an architecture comes from and what it asks of its input."""

    package: str
    module: str
    licence: str
    size_multiple: int = 1
    """Sides must be multiples of it; 1 also where the network pads by itself."""
    square: bool = False
    """Height and width must be equal."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Colour channels, where the architecture's own default is grey."""


ACADEMIC = 'Academic Public License (non-commercial)'
RGB = {'in_nc': 3, 'out_nc': 3}
BASELINES: dict[str, Baseline] = {
    'NAFNet': Baseline(PERMISSIVE, 'NAFNet', 'MIT'),
    'Uformer': Baseline(PERMISSIVE, 'Uformer', 'MIT', 128, square=True),
    'KBNet_s': Baseline(PERMISSIVE, 'KBNet', 'MIT'),
    'KBNet_l': Baseline(PERMISSIVE, 'KBNet', 'MIT', 16),
    'FFTformer': Baseline(PERMISSIVE, 'FFTformer', 'MIT', 32),
    'SCUNet': Baseline(PERMISSIVE, 'SCUNet', 'Apache-2.0', 64),
    'DRUNet': Baseline(PERMISSIVE, 'DRUNet', 'MIT', 8, defaults=RGB),
    'DnCNN': Baseline(PERMISSIVE, 'DnCNN', 'MIT', defaults=RGB),
    'FBCNN': Baseline(PERMISSIVE, 'FBCNN', 'Apache-2.0', 8),
    'RetinexFormer': Baseline(PERMISSIVE, 'RetinexFormer', 'MIT', 8),
    'HVICIDNet': Baseline(PERMISSIVE, 'HVICIDNet', 'MIT', 8),
    'GRL': Baseline(PERMISSIVE, 'GRL', 'MIT'),
    'Restormer': Baseline(EXTRA, 'Restormer', ACADEMIC, 8),
    'MPRNet': Baseline(EXTRA, 'MPRNet', ACADEMIC, 8),
    'MIRNet2': Baseline(EXTRA, 'MIRNet2', ACADEMIC, 4),
    'M3SNet': Baseline(EXTRA, 'M3SNet', ACADEMIC, 16),
}


class AnySize(nn.Module):
    """Mixed into a network's class: pads the input by reflection, returns the final image, cropped.

    Parameter names stay those of the network, so that published checkpoints fit. `noise_level`
    (grey levels of 255), for a network that takes one, is appended as a constant channel.
    """

    size_multiple: int
    square: bool
    noise_level: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The restored image (B, C, H, W) of `x`, RGB in [0, 1], of any size."""
        height, width = x.shape[-2:]
        if self.noise_level is not None:
            x = torch.cat([x, torch.full_like(x[:, :1], self.noise_level / 255)], dim=1)
        multiple = self.size_multiple
        if self.square:
            multiple *= -(-max(height, width) // multiple)
        output = super().forward(pad_to_multiple(x, multiple))  # type: ignore[misc]
        return final_image(output)[..., :height, :width]


@functools.cache
def any_size_class(network_class: Any, size_multiple: int, square: bool) -> Any:
    """The class of networks like `network_class` that take images of any size."""
    limits = {'size_multiple': size_multiple, 'square': square}
    return type(network_class.__name__, (AnySize, network_class), limits)


class BaselineFactory:
    """Builds one of `BASELINES` when it is called; registered in place of the network's class.

    Options are those of the network in spandrel. `weights` names a published checkpoint instead
    (.pth or .safetensors), from which all options follow. `noise_level`: see `AnySize`.

    Raises OptionError for an extra that is not installed, for unknown options and for a file that
    does not fit.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.baseline = BASELINES[name]
        self.__name__ = f'spandrel/{name}'  # what the registry calls it
        self.__doc__ = f'{name} of {self.baseline.package}; licence: {self.baseline.licence}.'

    def __call__(
        self, *, weights: str | None = None, noise_level: float | None = None, **options: Any
    ) -> nn.Module:
        """The network, with random weights or those of a file."""
        if weights is not None and options:
            raise OptionError(
                f'network_g: {self.__name__}: {", ".join(options)} follow from weights: {weights}; '
                'leave them out.'
            )
        with_noise = noise_level is not None
        network = self._new(options, with_noise) if weights is None else self._load(weights)
        network.noise_level = noise_level  # type: ignore[assignment]
        return network

    def option_parameters(self) -> dict[str, inspect.Parameter]:
        """The network's own options, and the two of every baseline."""
        common = inspect.signature(self.__call__).parameters
        own = inspect.signature(self.network_class()).parameters
        return {**own, 'weights': common['weights'], 'noise_level': common['noise_level']}

    def network_class(self) -> Any:
        """The class in spandrel; OptionError with the command to type if it is not installed."""
        return getattr(self._module(), self.name)

    def architecture(self) -> Any:
        """What spandrel knows of the network: its checkpoints and the sizes it takes."""
        return getattr(self._module(), f'{self.baseline.module}Arch')()

    def _module(self) -> Any:
        package = self.baseline.package
        try:
            return importlib.import_module(f'{package}.architectures.{self.baseline.module}')
        except ModuleNotFoundError as error:
            if importlib.util.find_spec(package) is not None:
                reason = f'needs {error.name}, which the installed {package} lacks; upgrade it'
            else:
                reason = f'needs the package {package}, which is not installed'
            raise OptionError(f'network_g: type: {self.__name__} {reason}: {INSTALL}') from error

    def _build(self, options: Mapping[str, Any]) -> nn.Module:
        limits = self.baseline.size_multiple, self.baseline.square
        return any_size_class(self.network_class(), *limits)(**options)

    def _new(self, options: Mapping[str, Any], takes_noise_level: bool) -> nn.Module:
        known = inspect.signature(self.network_class()).parameters
        check_names(options, known, f'network_g: {self.__name__}')
        noise_channel = {'in_nc': 4} if takes_noise_level else {}
        return self._build({**self.baseline.defaults, **noise_channel, **options})

    def _load(self, path: str) -> nn.Module:
        """The network of a published checkpoint; spandrel derives the options from the weights."""
        architecture = self.architecture()
        spandrel = importlib.import_module('spandrel')
        try:
            state_dict = spandrel.ModelLoader().load_state_dict_from_file(path)
        except Exception as error:
            raise OptionError(
                f'network_g: {self.__name__}: weights: {path} cannot be read: {error}'
            ) from error
        if not architecture.detect(state_dict):
            fitting = ' or '.join(name for name in BASELINES if _fits(state_dict, name))
            raise OptionError(
                f'network_g: {self.__name__}: weights: {path} is not a checkpoint of {self.name}'
                f'{fitting and f"; it fits {fitting}"}.'
            )
        published = architecture.load(state_dict).model
        network = self._build(published.hyperparameters)
        network.load_state_dict(published.state_dict())
        return network


def _fits(state_dict: Mapping[str, Tensor], name: str) -> bool:
    try:
        return BaselineFactory(name).architecture().detect(state_dict)
    except OptionError:  # its package is not installed
        return False
