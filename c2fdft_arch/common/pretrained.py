"""What PyTorchModelHubMixin of huggingface_hub gives a network, for networks without it.

huggingface_hub is optional and takes as long to import as much of PyTorch, so it is imported when
it is needed. Networks keep their class: the mixin is put before it for one call.
"""

import copy
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from c2fdft_arch.common.errors import C2FDFTError

Network = TypeVar('Network', bound=nn.Module)

DESCRIPTION = 'c2fdft'
"""The key of config.json for what weights say of their training."""


class HubMissing(C2FDFTError, ImportError):
    """huggingface_hub is not installed; the message says what to do."""


def from_pretrained(network_class: type[Network], source: str | Path, **settings: Any) -> Network:
    """A network as `PyTorchModelHubMixin.from_pretrained` loads it, in evaluation mode.

    `source` is a folder of config.json and model.safetensors, or a name on the hub. The attribute
    `description` is what its config says of the training, a dict; None if it says nothing.
    """
    hub_class = _with_mixin(network_class)
    network = hub_class.from_pretrained(source, **settings)
    network.__class__ = network_class
    network.description = _config(source, settings).get(DESCRIPTION)
    return network


def save_pretrained(
    network: nn.Module, options: Mapping[str, Any], folder: str | Path, **settings: Any
) -> Any:
    """Write config.json and model.safetensors as `PyTorchModelHubMixin.save_pretrained` does.

    `options` are those that the network was built with.
    """
    config = dict(options)
    description = getattr(network, 'description', None)
    if description is not None:
        config[DESCRIPTION] = getattr(description, 'to_plain', lambda: description)()
    same = copy.copy(network)  # with the same parameters
    same.__class__ = _with_mixin(type(network))
    return same.save_pretrained(folder, **{'config': config, **settings})  # type: ignore[operator]


def _config(source: str | Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json holds; it lies in the folder, or in the hub's cache by now."""
    path = Path(source) / 'config.json'
    if not path.is_file():
        where = {key: settings[key] for key in ('revision', 'cache_dir') if key in settings}
        hub = importlib.import_module('huggingface_hub')
        path = Path(hub.hf_hub_download(str(source), 'config.json', local_files_only=True, **where))
    return json.loads(path.read_text(encoding='utf-8'))


def _with_mixin(network_class: type[nn.Module]) -> Any:
    try:
        mixin = importlib.import_module('huggingface_hub').PyTorchModelHubMixin
    except ModuleNotFoundError as error:
        raise HubMissing('huggingface_hub is missing: pip install "c2fdft[hub]".') from error
    return type(network_class.__name__, (mixin, network_class), {})
