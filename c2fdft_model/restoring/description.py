"""What a checkpoint says of itself: its network, its diffusion process and how it was trained.

Plain data beside the parameters, under `description`, so that whoever has the file needs no option
file. Files without it are in the released format; of them the paper's settings are assumed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from c2fdft_arch import __version__
from c2fdft_arch.common.messages import one_line, shortened
from c2fdft_arch.common.option_parsing import NotNegativeInt, OptionError, Section, parse_section
from c2fdft_arch.common.registry_lookup import options_of
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.diffusion.sampling import sampling_timesteps

DESCRIPTION_KEY = 'description'
SAMPLER_OPTIONS = ('sampling_timesteps', 'eta')
"""Keys of `diffusion` that coarse training does not depend on; fine training trains for them."""

FindConstructor = Callable[[str], Callable[..., Any] | None]
Options = Mapping[str, Any]


class Description(Section):
    """The network of a checkpoint and the training that it comes from."""

    network_g: dict[str, Any]
    """`type` and options of the network, defaults included."""
    diffusion: DiffusionOptions
    """The process that it was trained for."""
    stage: str = ''
    """`coarse` or `fine`."""
    iteration: NotNegativeInt = 0
    """How many were trained in this stage."""
    data: tuple[str, ...] = ()
    """Names of the training data sets."""
    version: str = __version__
    """Of c2fdft, which wrote it."""

    def __str__(self) -> str:
        if not self.stage:
            return 'network that they describe, of a training that they do not'
        data = f', {", ".join(self.data)}' if self.data else ''
        return f'{self.stage} stage, iteration {self.iteration:,}{data} (c2fdft {self.version})'

    def to_plain(self) -> dict[str, Any]:
        """Dicts, lists, numbers and texts alone, which `weights_only` loading allows."""
        return self.model_dump(mode='json')

    @property
    def timesteps(self) -> list[int]:
        """The timesteps of the network calls that the process samples with."""
        diffusion = self.diffusion
        steps = diffusion.sampling_timesteps
        return sampling_timesteps(steps, diffusion.num_diffusion_timesteps)


def parse_description(content: Any, path: Path) -> Description | None:
    """The description in what a checkpoint file holds; None for one without.

    Raises OptionError for one that cannot be understood, such as one of a later version.
    """
    section = content.get(DESCRIPTION_KEY) if isinstance(content, Mapping) else None
    if section is None:
        return None
    try:
        return parse_section(Description, section, DESCRIPTION_KEY)
    except OptionError as error:
        version = section.get('version') if isinstance(section, Mapping) else None
        raise OptionError(
            f'{path}: what it says of itself cannot be understood: {one_line(error)} It '
            f'was written by c2fdft {version or "(unknown)"}, this is {__version__}.'
        ) from error


def describe(
    opt: Options, diffusion: DiffusionOptions, find_architecture: FindConstructor
) -> Description:
    """The description of what an option file trains or tests, before its first iteration.

    `opt` holds BasicSR's options, from which nothing has been taken out; `diffusion` is its parsed
    section. Defaults of networks are known for the types whose constructor is found.
    """
    train = opt.get('train') or {}
    names = [d.get('name') for key, d in (opt.get('datasets') or {}).items() if key == 'train']
    return Description(
        network_g=plain(built_arguments(opt.get('network_g') or {}, find_architecture)),
        diffusion=diffusion,
        stage=str(train.get('stage', '')),
        data=tuple(str(name) for name in names if name),
    )


def with_description(network_g: Options, diffusion: Options, saved: Description | None) -> Any:
    """Both sections of an option file, with what they leave out as the weights describe it.

    A network of another type, or another process, keeps its own defaults.
    """
    given, section = _given(network_g), _given(diffusion)
    if saved is None:
        return given, section
    if given.get('type', saved.network_g.get('type')) == saved.network_g.get('type'):
        given = {**saved.network_g, **given}
    trained = saved.diffusion.model_dump(mode='json')
    if section.get('process', trained['process']) == trained['process']:
        section = {**trained, **section}
    return given, section


def provenance(saved: Description | None) -> str:
    """A sentence on where weights come from, or on what is assumed of those that do not say."""
    if saved is None:
        return (
            'The weights do not say what they were trained with (the released format): the '
            "paper's settings are assumed where no others are given."
        )
    return f'The weights are of the {saved}.'


def contradictions(
    saved: Description | None, used: Description, find_architecture: FindConstructor | None = None
) -> list[str]:
    """How what is used differs from what weights say of themselves, key by key.

    Options that weights leave out of `network_g`, such as those of a later version, are the
    defaults of the network where `find_architecture` knows it. How weights are sampled counts for
    those of the fine stage alone, which are trained for it.
    """
    found: list[str] = []
    if saved is None:
        return found
    if find_architecture:
        network_g = built_arguments(saved.network_g, find_architecture)
        saved = saved.model_copy(update={'network_g': network_g})
    for path, old, new in differences(_compared(saved), _compared(used)):
        ignored = path in {f'diffusion: {name}' for name in SAMPLER_OPTIONS}
        if not (ignored and saved.stage != 'fine') and new is not None:
            found.append(_contradiction(path, old, new))
    return found


def built_arguments(section: Options, find: FindConstructor) -> dict[str, Any]:
    """A section with `type` and the arguments of what is built, defaults of the signature included.

    So are those of sections inside it. Of a type that `find` does not know, what is given.
    """
    constructor = find(str(section.get('type')))
    given = {
        name: built_arguments(value, find) if isinstance(value, Mapping) else value
        for name, value in section.items()
    }
    return {**(defaults(constructor) if constructor else {}), **given}


def defaults(constructor: Callable[..., Any]) -> dict[str, Any]:
    """The options that a constructor takes and their defaults, in plain types."""
    parameters = options_of(constructor).values()
    return {p.name: plain(p.default) for p in parameters if p.default is not p.empty}


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any, Any]]:
    """Every (path, old value, new value) that differs; a missing key reads as None."""
    for name in dict.fromkeys((*old, *new)):
        a, b = old.get(name), new.get(name)
        path = f'{prefix}: {name}' if prefix else str(name)
        if isinstance(a, Mapping) or isinstance(b, Mapping):
            yield from differences(a or {}, b or {}, path)
        elif a != b:
            yield path, a, b


def plain(value: Any) -> Any:
    """The same value of dicts, lists, numbers and texts, which `weights_only` loading allows."""
    return json.loads(json.dumps(value, default=str))


def _given(section: Options) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value is not None}


def _compared(description: Description) -> dict[str, Any]:
    diffusion = description.diffusion.model_dump(mode='json')
    # The number of calls and the list of their timesteps say the same.
    diffusion['sampling_timesteps'] = description.timesteps
    return {'network_g': plain(description.network_g), 'diffusion': diffusion}


def _contradiction(path: str, old: Any, new: Any) -> str:
    if path != 'diffusion: sampling_timesteps':
        return f'{path}: trained with {_shown(old)}, {_shown(new)} is used'
    verb = 'are' if len(new) > 1 else 'is'
    return f'{path}: trained with {_calls(old)}, {_calls(new)} {verb} used'


def _calls(timesteps: list[int]) -> str:
    """`4 calls (999, 666, 333, 0)`."""
    count = len(timesteps)
    shown = shortened([str(timestep) for timestep in timesteps], shown=4)
    return f'{count} call{"s" * (count > 1)} ({shown})'


def _shown(value: Any) -> str:
    return 'nothing' if value is None else str(value)
