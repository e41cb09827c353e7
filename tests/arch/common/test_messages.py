"""Pieces of messages: the nearest name, shortened lists, and what switches something off."""

from __future__ import annotations

import pytest

from c2fdft_arch.common.messages import is_switched_off, nearest, printable, shortened


@pytest.mark.parametrize(
    ('given', 'found'),
    [('ema_deacy', 'ema_decay'), ('EDSR', 'EDSR'), ('edsr', 'EDSR'), ('RRDBnett', 'RRDBNet')],
)
def test_the_nearest_name_is_found_in_any_case_and_spelt_as_allowed(given, found):
    assert nearest(given, ['ema_decay', 'EDSR', 'RRDBNet']) == f' (did you mean "{found}"?)'


@pytest.mark.parametrize('allowed', [['coarse', 'fine'], []])
def test_nothing_is_suggested_where_nothing_is_near(allowed):
    assert nearest('sampling', allowed) == ''


@pytest.mark.parametrize(
    ('names', 'text'),
    [
        ([], ''),
        (['a'], 'a'),
        (['a', 'b', 'c'], 'a, b, c'),
        (['a', 'b', 'c', 'd', 'e'], 'a, b, c and 2 more'),
    ],
)
def test_long_lists_are_shortened(names, text):
    assert shortened(names) == text


def test_the_number_of_names_shown_can_be_chosen():
    assert shortened(['a', 'b', 'c'], shown=1) == 'a and 2 more'


@pytest.mark.parametrize('value', ['0', 'off', 'False', ' no '])
def test_values_that_switch_off(value, monkeypatch):
    monkeypatch.setenv('C2FDFT_TEST', value)
    assert is_switched_off('C2FDFT_TEST')


@pytest.mark.parametrize('value', ['1', 'on', '', None])
def test_values_that_do_not(value, monkeypatch):
    monkeypatch.delenv('C2FDFT_TEST', raising=False)
    if value is not None:
        monkeypatch.setenv('C2FDFT_TEST', value)
    assert not is_switched_off('C2FDFT_TEST')


@pytest.mark.parametrize(
    ('name', 'shown'),
    [
        ('é b.png', 'é b.png'),
        ('b\udce9.png', '\\xe9'.join(['b', '.png'])),
        ('a\nb\x1b[31m.png', 'a\\nb\\x1b[31m.png'),
        ('lone \ud800', 'lone \\ud800'),
    ],
)
def test_a_name_of_any_bytes_can_be_shown_on_one_line(name, shown):
    assert printable(name) == shown
    printable(name).encode()
