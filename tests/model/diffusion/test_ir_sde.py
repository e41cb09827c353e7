"""IR-SDE against simulation, Gaussian conditioning and a perfect predictor."""

from __future__ import annotations

import math

import pytest
import torch

from c2fdft_arch.baselines.noise_predictor import NoisePredictor
from c2fdft_arch.common.option_parsing import OptionError, parse_section
from c2fdft_model.diffusion.ir_sde import THETA_SCHEDULES, IRSDEProcess, MeanReversion
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.restoring.restoration import restore

X_0, MU = 0.6, -0.3


def images(value: float, batch: int = 1, size: int = 4) -> torch.Tensor:
    return torch.full((batch, 3, size, size), value, dtype=torch.float64)


def at(timestep: int, batch: int = 1) -> torch.Tensor:
    return torch.full((batch,), timestep)


def perfect_predictor(process: IRSDEProcess, x_0: torch.Tensor, y: torch.Tensor):
    """The noise of x_t, known because x_0 is."""
    nothing = torch.zeros_like(x_0)

    def denoise(x_t, t):
        std = process.reversion.std(t).view(-1, 1, 1, 1).to(x_t.dtype)
        return (x_t - process.q_sample(x_0, y, nothing, t)) / std

    return denoise


def simulate(reversion: MeanReversion, last: int, paths: int = 20000, substeps: int = 20):
    """x at timestep `last` of many paths, by small Euler steps of the forward equation."""
    generator = torch.Generator().manual_seed(0)
    x = torch.full((paths,), X_0, dtype=torch.float64)
    for t in range(last + 1):
        d_theta = float(reversion.elapsed(at(t), at(t - 1))) / substeps
        sigma = reversion.stationary_std * math.sqrt(2 * d_theta)
        for _ in range(substeps):
            x += d_theta * (MU - x) + sigma * torch.randn(paths, generator=generator).double()
    return x


@pytest.mark.parametrize('timestep', [10, 50, 99])
def test_mean_and_std_at_t_agree_with_a_simulation_of_the_forward_equation(timestep):
    reversion = MeanReversion(num_timesteps=100, noise_level=50)
    x = simulate(reversion, timestep)
    mean = MU + (X_0 - MU) * float(reversion.decay(at(timestep)))
    std = float(reversion.std(at(timestep)))
    assert float(x.mean()) == pytest.approx(mean, abs=5 * std / math.sqrt(len(x)) + 2e-3)
    assert float(x.std()) == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize('theta_schedule', THETA_SCHEDULES)
def test_delta_is_left_of_the_clean_image_at_the_last_timestep(theta_schedule):
    reversion = MeanReversion(37, theta_schedule, delta=0.02)
    assert float(reversion.decay(at(36))) == pytest.approx(0.02, rel=1e-12)


def test_cosine_schedule_starts_slowly_and_reverts_fastest_at_the_end():
    reversion = MeanReversion(100)
    speed = reversion.theta_bar.diff()
    assert (speed.diff() > 0).all()
    # 1 - cos^2 of the flipped schedule half-way, relative to the end (Nichol and Dhariwal, Eq. 17)
    f = [math.cos((i / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in (0, 50, 100)]
    expected = (1 - f[1] / f[0]) / (1 - f[2] / f[0])
    assert float(speed[49] / speed[99]) == pytest.approx(expected, rel=1e-12)


def test_noise_level_is_in_grey_levels_of_255_on_images_of_range_2():
    assert MeanReversion(noise_level=25.5).stationary_std == pytest.approx(0.2)


def test_forward_process_is_the_clean_image_before_step_0():
    process = IRSDEProcess()
    x = process.q_sample(images(X_0), images(MU), torch.randn(1, 3, 4, 4).double(), at(-1))
    assert torch.allclose(x, images(X_0), rtol=0, atol=1e-15)


def test_forward_process_uses_each_images_own_timestep():
    process = IRSDEProcess()
    eps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    both = process.q_sample(images(X_0, 2), images(MU, 2), eps, torch.tensor([3, 90]))
    for k, timestep in enumerate((3, 90)):
        one = process.q_sample(images(X_0), images(MU), eps[k : k + 1], at(timestep))
        assert torch.allclose(both[k : k + 1], one)


def test_sampling_starts_at_the_degraded_image_with_stationary_noise():
    process = IRSDEProcess()
    eps = torch.randn(1, 3, 4, 4).double()
    expected = images(MU) + process.reversion.stationary_std * eps
    assert torch.equal(process.initial_sample(images(MU), eps), expected)


def test_most_likely_previous_state_is_where_the_density_given_x_0_is_flat():
    process = IRSDEProcess(
        MeanReversion(20, noise_level=30), sampling_steps=20, objective='maximum_likelihood'
    )
    r, t = process.reversion, 12
    x_t = images(0.1)
    _, x = process.objective(images(0.0), x_t, images(X_0), images(MU), images(0.0), at(t))
    x.requires_grad_()
    decay = torch.exp(-r.elapsed(at(t), at(t - 1)))
    step_var = r.stationary_std**2 * (1 - decay**2)
    from_x = ((x_t - (MU + decay * (x - MU))) ** 2).sum() / (2 * step_var)
    mean = MU + r.decay(at(t - 1)) * (X_0 - MU)
    from_x_0 = ((x - mean) ** 2).sum() / (2 * r.std(at(t - 1)) ** 2)
    (gradient,) = torch.autograd.grad((from_x + from_x_0).sum(), x)
    assert float(gradient.abs().max()) < 1e-8


@pytest.mark.parametrize('objective', ['noise', 'maximum_likelihood'])
def test_objectives_have_the_noisy_images_shape_and_a_gradient(objective):
    process = IRSDEProcess(objective=objective)
    x_0, y, eps = images(X_0, 2), images(MU, 2), torch.randn(2, 3, 4, 4).double()
    t = torch.tensor([1, 80])
    x_t = process.q_sample(x_0, y, eps, t)
    prediction = torch.zeros_like(eps).requires_grad_()
    estimate, target = process.objective(prediction, x_t, x_0, y, eps, t)
    assert estimate.shape == target.shape == x_t.shape
    (estimate - target).abs().sum().backward()
    assert (prediction.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_noise_objective_is_met_by_the_true_noise():
    process = IRSDEProcess()
    eps = torch.randn(1, 3, 4, 4).double()
    estimate, target = process.objective(eps, eps, images(X_0), images(MU), eps, at(5))
    assert torch.equal(estimate, target)


def likelihood_error(num_timesteps: int) -> float:
    process = IRSDEProcess(
        MeanReversion(num_timesteps), sampling_steps=1, objective='maximum_likelihood'
    )
    eps = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    t = at(num_timesteps // 2)
    x_t = process.q_sample(images(X_0), images(MU), eps, t)
    estimate, target = process.objective(eps, x_t, images(X_0), images(MU), eps, t)
    return float((estimate - target).abs().mean())


def test_likelihood_objective_is_met_by_the_true_noise_up_to_second_order_in_the_step():
    assert likelihood_error(1000) < 1.3 * likelihood_error(100) / 100


@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('steps', [1, 4, 100])
def test_a_perfect_predictor_recovers_the_clean_image_by_posterior_sampling(eta, steps):
    process = IRSDEProcess(sampling_steps=steps, eta=eta)
    x_0 = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    y = x_0.flip(-1)
    start = process.initial_sample(y, torch.randn(2, 3, 4, 4).double())
    restored = process.sample(perfect_predictor(process, x_0, y), start, y)
    assert float((restored - x_0).abs().max()) < 1e-10


@pytest.mark.parametrize('eta', [0.0, 1.0])
def test_a_perfect_predictor_recovers_the_clean_image_by_euler_steps(eta):
    reversion = MeanReversion(1000)
    process = IRSDEProcess(reversion, sampling_steps=1000, eta=eta, sampler='sde')
    x_0 = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    y = x_0.flip(-1)
    start = process.initial_sample(y, torch.randn(1, 3, 8, 8).double())
    restored = process.sample(
        perfect_predictor(process, x_0, y), start, y, generator=torch.Generator().manual_seed(2)
    )
    assert float((restored - x_0).abs().max()) < 0.01


@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
def test_posterior_sampling_keeps_the_variance_of_the_forward_process(eta):
    process = IRSDEProcess(MeanReversion(100), sampling_steps=[60, 20], eta=eta)
    x_0, y = images(X_0, size=64), images(MU, size=64)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(x_0.shape, generator=generator).double()
    x_t = process.q_sample(x_0, y, noise, at(60))
    seen = []

    def denoise(x_t, t):
        seen.append(x_t)
        return perfect_predictor(process, x_0, y)(x_t, t)

    process.sample(denoise, x_t, y, generator=generator)
    assert float(seen[1].std()) == pytest.approx(float(process.reversion.std(at(20))), rel=0.03)


def test_sampling_calls_the_network_once_per_timestep():
    process = IRSDEProcess(sampling_steps=4)
    calls = []

    def denoise(x_t, t):
        calls.append(int(t[0]))
        return torch.zeros_like(x_t)

    process.sample(denoise, images(0.0), images(MU))
    assert calls == [99, 66, 33, 0]


def test_sampling_is_differentiable_through_the_last_steps_only_if_asked():
    process = IRSDEProcess(sampling_steps=4)
    weight = torch.zeros(4, requires_grad=True)
    steps = iter(range(4))

    def denoise(x_t, t):
        return weight[next(steps)] + 0 * x_t

    process.sample(denoise, images(0.0), images(MU), grad_steps=2).sum().backward()
    assert [bool(g) for g in weight.grad != 0] == [False, False, True, True]


def test_equal_generators_give_equal_samples():
    process = IRSDEProcess(sampling_steps=4, eta=1)

    def denoise(x_t, t):
        return torch.zeros_like(x_t)

    a, b = (
        process.sample(denoise, images(0.0), images(MU), generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'theta_schedule': 'cosin'}, 'cosine'),
        ({'noise_level': 0}, 'noise_level'),
        ({'delta': 1}, 'delta'),
        ({'num_timesteps': 0}, 'num_diffusion_timesteps'),
    ],
)
def test_impossible_processes_are_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        MeanReversion(**arguments)


def process_of(section: dict):
    return build_process(parse_section(DiffusionOptions, section, 'diffusion'))


def test_options_build_the_process_with_its_own_settings():
    section = {
        'process': 'ir_sde',
        'num_diffusion_timesteps': 100,
        'sampling_timesteps': 100,
        'eta': 1,
        'ir_sde': {'noise_level': 51, 'sampler': 'sde', 'objective': 'maximum_likelihood'},
    }
    process = process_of(section)
    assert isinstance(process, IRSDEProcess)
    assert process.num_timesteps == len(process.timesteps) == 100
    assert process.reversion.stationary_std == pytest.approx(0.4)


@pytest.mark.parametrize(
    ('section', 'words'),
    [
        ({'process': 'irsde'}, 'did you mean "ir_sde"'),
        ({'process': 'ddpm', 'ir_sde': {}}, 'ir_sde belongs to process: ir_sde'),
        ({'process': 'ir_sde', 'beta_end': 0.1}, 'beta_end belongs to process: ddpm'),
        ({'process': 'ir_sde', 'ir_sde': {'noise': 3}}, 'did you mean "noise_level"'),
        ({'process': 'ir_sde', 'ir_sde': {'delta': 2}}, 'diffusion: delta'),
        ({'process': 'ir_sde', 'eta': 1.5}, 'eta'),
    ],
)
def test_wrong_options_are_refused_by_name(section, words):
    with pytest.raises(OptionError, match=words):
        process_of(section)


def test_a_stochastic_restoration_depends_on_the_images_name_alone():
    process = IRSDEProcess(MeanReversion(10), sampling_steps=3, eta=1)
    network = NoisePredictor(torch.nn.Conv2d(7, 3, 3, padding=1)).eval()
    image = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0))
    first, again, other = (
        restore(network, image, process=process, noise_name=name) for name in ('a', 'a', 'b')
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
