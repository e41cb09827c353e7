"""The networks that the paper compares with, from spandrel and spandrel-extra-arches.

Both packages are optional (`pip install "c2fdft[baselines]"`) and imported when a network is built.
spandrel is MIT-licensed and holds architectures under permissive licences; spandrel-extra-arches is
the same wrapper around architectures that are free for non-commercial use only. The licence of
each architecture stands in `BASELINES`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

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
    """Mixed into a network: pads its input by reflection, returns its final image, cropped.

    Parameter names stay those of the network, so that published checkpoints fit. `noise_level`
    (grey levels of 255), for a network that is told the noise, is appended as a constant channel.
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
            longest = max(height, width)
            multiple = -(-longest // multiple) * multiple
        output = super().forward(pad_to_multiple(x, multiple))  # type: ignore[misc]
        final = output[0] if isinstance(output, (list, tuple)) else output
        return final[..., :height, :width]


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
        self.__name__ = f'spandrel/{name}'
        self.__doc__ = f'{name} of {self.baseline.package}; licence: {self.baseline.licence}.'

    @property
    def __signature__(self) -> inspect.Signature:
        """The network's own options, for those who look before they call."""
        own = inspect.signature(self.network_class()).parameters.values()
        extra = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None)
            for key in ('weights', 'noise_level')
        ]
        return inspect.Signature([*own, *extra])

    def __call__(
        self, *, weights: str | None = None, noise_level: float | None = None, **options: Any
    ) -> nn.Module:
        """The network, with random weights or those of a file."""
        plain = self.network_class()
        if weights is not None:
            if options:
                raise OptionError(
                    f'network_g: {self.__name__}: {", ".join(options)} follow from weights: '
                    f'{weights}; leave them out.'
                )
            network = self._load(weights)
        else:
            check_names(options, inspect.signature(plain).parameters, f'network_g: {self.__name__}')
            extra_channel = {} if noise_level is None else {'in_nc': 4}
            network = plain(**{**self.baseline.defaults, **extra_channel, **options})
        network.__class__ = self._any_size_class(plain)
        network.noise_level = noise_level  # type: ignore[assignment]
        return network

    def network_class(self) -> Callable[..., nn.Module]:
        """The class in spandrel; OptionError with the command to type if it is not installed."""
        return getattr(self._module(), self.name)

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

    def _any_size_class(self, plain: Any) -> type[nn.Module]:
        baseline = self.baseline
        limits = {'size_multiple': baseline.size_multiple, 'square': baseline.square}
        return type(self.name, (AnySize, plain), limits)

    def _load(self, path: str) -> nn.Module:
        spandrel = importlib.import_module('spandrel')
        architecture = getattr(self._module(), f'{self.baseline.module}Arch')()
        try:
            state_dict = spandrel.ModelLoader().load_state_dict_from_file(path)
        except Exception as error:
            raise OptionError(
                f'network_g: {self.__name__}: weights: {path} cannot be read: {error}'
            ) from error
        if not architecture.detect(state_dict):
            raise OptionError(
                f'network_g: {self.__name__}: weights: {path} is not a checkpoint of {self.name}'
                f'{_what_it_is(state_dict)}.'
            )
        return architecture.load(state_dict).model


def _what_it_is(state_dict: Mapping[str, Tensor]) -> str:
    names = []
    for name, baseline in BASELINES.items():
        try:
            module = importlib.import_module(f'{baseline.package}.architectures.{baseline.module}')
        except ModuleNotFoundError:
            continue
        if getattr(module, f'{baseline.module}Arch')().detect(state_dict):
            names.append(name)
    return f'; it fits {" or ".join(names)}' if names else ''
