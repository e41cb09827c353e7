"""Noise schedules, the closed form of x_t, and the training timesteps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from c2fdft_model.diffusion.noise_schedule import (
    BETA_SCHEDULES,
    NoiseSchedule,
    antithetic_timesteps,
    make_betas,
)

DATA = Path(__file__).resolve().parents[2] / 'data'


def test_alpha_bar_equals_the_reference_values():
    reference = json.loads((DATA / 'noise_schedule.json').read_text())['alphas_cumprod']
    schedule = NoiseSchedule()
    ours = {t: schedule.alpha_bar_at(int(t)) for t in reference}
    assert ours == pytest.approx(reference, rel=1e-12)


def test_alpha_bar_before_the_first_step_is_one():
    assert NoiseSchedule().alpha_bar_at(-1) == 1.0


@pytest.mark.parametrize('timestep', [-2, 1000])
def test_alpha_bar_outside_the_process_is_refused(timestep):
    with pytest.raises(ValueError, match=str(timestep)):
        NoiseSchedule().alpha_bar_at(timestep)


@pytest.mark.parametrize(
    ('schedule', 'expected'),
    [
        ('linear', [0.01, 0.085, 0.16]),
        ('quad', [0.01, 0.0625, 0.16]),
        ('const', [0.16, 0.16, 0.16]),
        ('jsd', [1 / 3, 1 / 2, 1]),
        ('sigmoid', [0.01 + 0.15 * 0.0024726232, 0.085, 0.01 + 0.15 * 0.9975273768]),
    ],
)
def test_betas_of_three_steps_by_hand(schedule, expected):
    betas = make_betas(schedule, 0.01, 0.16, 3)
    assert betas.dtype == torch.float64
    assert betas.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('schedule', BETA_SCHEDULES)
def test_alpha_bar_falls_in_every_schedule(schedule):
    alpha_bar = NoiseSchedule(make_betas(schedule)).alpha_bar
    assert (alpha_bar.diff() < 0).all()


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        ({'schedule': 'cosine'}, 'cosine'),
        ({'beta_start': 0.0}, 'beta_start'),
        ({'beta_end': 1.5}, 'beta_end'),
        ({'num_timesteps': 0}, 'num_diffusion_timesteps'),
    ],
)
def test_impossible_schedules_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        make_betas(**arguments)


def test_noisy_image_has_the_closed_form_mean_and_variance():
    schedule = NoiseSchedule()
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((2, 3, 200, 200), 0.5)
    eps = torch.randn(x_0.shape, generator=generator)
    noisy = schedule.add_noise(x_0, eps, torch.tensor([0, 500]))
    for image, alpha_bar in zip(noisy, (0.9999, 0.07779665836502389), strict=True):
        assert image.mean().item() == pytest.approx(0.5 * alpha_bar**0.5, abs=0.01)
        assert image.var().item() == pytest.approx(1 - alpha_bar, rel=0.02)


@pytest.mark.parametrize('batch_size', [1, 2, 7, 360])
def test_timesteps_come_in_antithetic_pairs(batch_size):
    t = antithetic_timesteps(batch_size, 1000, torch.Generator().manual_seed(3))
    assert t.shape == (batch_size,)
    assert ((t >= 0) & (t < 1000)).all()
    first = batch_size // 2 + 1
    mirrored = batch_size - first
    assert (t[first:] == 999 - t[:mirrored]).all()


def test_timesteps_cover_the_process_evenly():
    t = antithetic_timesteps(20_000, 10, torch.Generator().manual_seed(0))
    counts = torch.bincount(t, minlength=10)
    assert (counts - 2000).abs().max() < 200
