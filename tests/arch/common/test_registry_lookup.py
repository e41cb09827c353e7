"""Finding architectures in a registry, and the options that they take."""

from __future__ import annotations

import inspect

import pytest

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.common.registry_lookup import find_registered, options_of


class EDSR:
    def __init__(self, num_feat: int = 64) -> None:
        self.num_feat = num_feat


class Factory:
    def __call__(self, **options) -> EDSR:
        return EDSR(**options)

    def option_parameters(self):
        return inspect.signature(EDSR).parameters


REGISTRY = [('EDSR', EDSR), ('SwinIR_basicsr', Factory)]


@pytest.mark.parametrize(('name', 'found'), [('EDSR', EDSR), ('SwinIR', Factory)])
def test_names_are_found_with_and_without_the_suffix_of_basicsr(name, found):
    assert find_registered(REGISTRY, name, 'network_g') is found


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('edsr', 'network_g: type: edsr is not a registered architecture .did you mean "EDSR"'),
        ('Uformer', 'Registered: EDSR, SwinIR_basicsr'),
        (None, 'network_g: type is missing'),
    ],
)
def test_what_is_not_registered_is_refused_with_what_is(name, words):
    with pytest.raises(OptionError, match=words):
        find_registered(REGISTRY, name, 'network_g')


@pytest.mark.parametrize('constructor', [EDSR, Factory()], ids=['class', 'factory'])
def test_options_are_those_of_the_network_that_is_built(constructor):
    assert options_of(constructor)['num_feat'].default == 64
