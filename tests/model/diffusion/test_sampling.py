"""The sampler: timesteps, one step by hand, gradients."""

from __future__ import annotations

import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_model.diffusion.noise_schedule import NoiseSchedule
from c2fdft_model.diffusion.prediction import clean_and_noise
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.diffusion.sampling import ddim_step, sampling_timesteps
from helpers.networks import REFERENCES, reference_network


def ddim_sample(denoise, x_T, steps=4, eta=0.0, **options):
    process = DDPMProcess(sampling_steps=steps, eta=eta)
    return process.sample(denoise, x_T, torch.zeros_like(x_T), **options)


@pytest.mark.parametrize(
    ('steps', 'expected'),
    [
        (1, [999]),
        (2, [999, 0]),
        (3, [999, 500, 0]),
        (4, [999, 666, 333, 0]),
        (5, [999, 749, 500, 250, 0]),
        ([0, 999, 300], [999, 300, 0]),
        ([7], [7]),
    ],
)
def test_sampling_timesteps(steps, expected):
    assert sampling_timesteps(steps) == expected


@pytest.mark.parametrize('steps', [1, 2, 4, 7, 50, 999, 1000])
def test_sampling_makes_exactly_as_many_network_calls_as_steps(steps):
    seen = []

    def denoise(x_t, t):
        seen.append(t.tolist())
        return x_t * 0.1

    ddim_sample(denoise, torch.randn(2, 3, 2, 2), steps)
    assert len(seen) == steps
    assert seen[0] == [999, 999]
    assert seen[-1] == ([0, 0] if steps > 1 else [999, 999])


@pytest.mark.parametrize('steps', [0, -1, 1001, [], [5, 5], [1000], [-1, 4]])
def test_impossible_timesteps_are_refused(steps):
    with pytest.raises(ValueError, match='sampling_timesteps'):
        sampling_timesteps(steps)


@pytest.mark.parametrize('network', [PlainDFT, DFT])
@pytest.mark.parametrize('name', REFERENCES)
def test_whole_trajectory_agrees_with_the_released_implementation(network, name):
    net, tensors, _ = reference_network(network, name)
    states = []

    def denoise(x_t, t):
        states.append(x_t)
        return net(torch.cat([tensors['lq'], x_t], dim=1), t)

    timesteps = sampling_timesteps(4)
    assert sorted(timesteps) == sorted(tensors['sample_timesteps'].tolist())
    with torch.no_grad():
        sampled = ddim_sample(denoise, tensors['x_T'], timesteps)
    trajectory = torch.stack([*states, sampled])
    reference = tensors['sample_trajectory']
    largest = reference.abs().flatten(1).amax(1)
    error = (trajectory - reference).abs().flatten(1).amax(1)
    assert (error / largest < 1e-4).all()
    assert (sampled - tensors['sampled']).abs().max() < 1e-4 * tensors['sampled'].abs().max()


@pytest.mark.parametrize('steps', [1, 4, 10])
def test_a_perfect_predictor_recovers_the_clean_image(steps):
    schedule = NoiseSchedule()
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(1, 3, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    x_T = torch.randn(1, 3, 8, 8, generator=generator, dtype=torch.float64)

    def true_noise(x_t, t):
        alpha_bar = schedule.alpha_bar_at(int(t[0]))
        return (x_t - alpha_bar**0.5 * x_0) / (1 - alpha_bar) ** 0.5

    sampled = ddim_sample(true_noise, x_T, steps)
    assert torch.allclose(sampled, x_0, atol=1e-9)


def test_one_step_by_hand():
    x_t, eps = torch.tensor([1.0]), torch.tensor([0.5])
    x_0, _ = clean_and_noise('noise', eps, x_t, 0.8, 0.6)
    # x_0 = (1 - 0.6 * 0.5) / 0.8 = 0.875; next = 0.6 * 0.875 + 0.8 * 0.5
    stepped = ddim_step(x_0, eps, alpha_bar_t=0.64, alpha_bar_next=0.36)
    assert stepped.item() == pytest.approx(0.925, abs=1e-6)


def test_eta_one_adds_noise_of_the_posterior_variance():
    alpha_bar_t, alpha_bar_next = 0.3, 0.6
    x_0 = torch.zeros(400_000)
    generator = torch.Generator().manual_seed(0)
    stepped = ddim_step(x_0, x_0, alpha_bar_t, alpha_bar_next, eta=1.0, generator=generator)
    beta = 1 - alpha_bar_t / alpha_bar_next
    posterior = (1 - alpha_bar_next) / (1 - alpha_bar_t) * beta
    assert stepped.var().item() == pytest.approx(posterior, rel=0.01)


def test_eta_keeps_the_marginal_variance():
    alpha_bar_t, alpha_bar_next = 0.3, 0.6
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(400_000, generator=generator)
    stepped = ddim_step(
        torch.zeros_like(eps), eps, alpha_bar_t, alpha_bar_next, eta=0.7, generator=generator
    )
    assert stepped.var().item() == pytest.approx(1 - alpha_bar_next, rel=0.01)


def test_stochastic_sampling_is_repeatable_with_a_generator():
    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        x_T = torch.ones(1, 3, 4, 4)
        return ddim_sample(lambda x, t: x * 0.5, x_T, eta=1.0, generator=generator)

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


class Scale(torch.nn.Module):
    """A denoiser with one parameter, which also counts its evaluations."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.evaluations = 0

    def forward(self, x_t, t):
        self.evaluations += 1
        return torch.tanh(self.weight * x_t)


def gradient_of(**arguments):
    denoiser = Scale()
    x_T = torch.linspace(-1, 1, 12, dtype=torch.float64).view(1, 3, 2, 2)
    ddim_sample(denoiser, x_T, **arguments).sum().backward()
    return denoiser.weight.grad, denoiser.evaluations


def test_checkpointed_steps_give_the_same_gradient():
    plain, plain_evaluations = gradient_of()
    checkpointed, evaluations = gradient_of(checkpoint=True)
    assert torch.equal(plain, checkpointed)
    assert (plain_evaluations, evaluations) == (4, 8)


@pytest.mark.parametrize('grad_steps', [1, 2, 3])
def test_grad_steps_treats_the_state_before_them_as_a_constant(grad_steps):
    schedule, timesteps = NoiseSchedule(), sampling_timesteps(4)
    alpha_bars = [schedule.alpha_bar_at(t) for t in timesteps] + [1.0]
    denoiser = Scale()
    x_t = torch.linspace(-1, 1, 12, dtype=torch.float64).view(1, 3, 2, 2)
    for step in range(4):
        if step == 4 - grad_steps:
            x_t = x_t.detach()
        levels = alpha_bars[step] ** 0.5, (1 - alpha_bars[step]) ** 0.5
        predicted = clean_and_noise('noise', denoiser(x_t, None), x_t, *levels)
        x_t = ddim_step(*predicted, alpha_bars[step], alpha_bars[step + 1])
    x_t.sum().backward()
    truncated, _ = gradient_of(grad_steps=grad_steps)
    assert torch.allclose(truncated, denoiser.weight.grad, rtol=1e-12)


def test_grad_steps_beyond_the_sampling_steps_are_all_of_them():
    assert torch.equal(gradient_of(grad_steps=9)[0], gradient_of()[0])
