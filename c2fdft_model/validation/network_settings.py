"""Whether the network can be evaluated as `val` says, known before anything is computed."""

from torch import nn

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.restoring.restoration import inference_settings
from c2fdft_model.validation.options import ValidationOptions


def check_network_settings(
    network: nn.Module, process: DiffusionProcess, options: ValidationOptions
) -> None:
    """Raise OptionError if the network or its device cannot do what `val` asks for."""
    try:
        with inference_settings(
            network, process, options.precision, options.memory_budget_mb, options.kernels
        ):
            pass
    except OptionError as error:
        raise OptionError(f'val: {error}') from error
