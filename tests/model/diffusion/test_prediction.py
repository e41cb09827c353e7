"""Prediction targets: perfect predictors, conversions, and the network that starts as identity."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from torch import nn

from c2fdft_arch.baselines.noise_predictor import NoisePredictor
from c2fdft_arch.common.option_parsing import OptionError, parse_section
from c2fdft_arch.dft import DFT
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_model.diffusion.ir_sde import IRSDEProcess
from c2fdft_model.diffusion.noise_schedule import NoiseSchedule, make_betas
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.diffusion.prediction import clean_and_noise, prediction_target
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.losses import SSIMLoss
from c2fdft_model.restoring.restoration import float32_from, restore
from c2fdft_model.training.stages import CoarseStage, FineStage, to_signed
from helpers.networks import tiny_network

PREDICTIONS = ['noise', 'clean', 'velocity']


def images(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x_0, eps, y = torch.randn(3, 2, 3, 8, 8, generator=generator, dtype=dtype)
    return x_0.tanh(), eps, y.tanh()


def levels(t):
    alpha_bar = NoiseSchedule().alpha_bar_at(int(t))
    return alpha_bar**0.5, (1 - alpha_bar) ** 0.5


def test_targets_by_hand():
    x_0, eps = torch.tensor([0.5]), torch.tensor([-1.0])
    targets = [prediction_target(p, x_0, eps, 0.6, 0.8).item() for p in PREDICTIONS]
    # velocity: 0.6 * -1 - 0.8 * 0.5
    assert targets == pytest.approx([-1.0, 0.5, -1.0])
    assert prediction_target('velocity', x_0, eps, 0.8, 0.6).item() == pytest.approx(-1.1)


@pytest.mark.parametrize('t', [0, 333, 999])
@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_every_target_gives_the_clean_image_and_the_noise_back(prediction, t):
    x_0, eps, _ = images()
    signal, noise = levels(t)
    x_t = signal * x_0 + noise * eps
    target = prediction_target(prediction, x_0, eps, signal, noise)
    for found, true in zip(
        clean_and_noise(prediction, target, x_t, signal, noise), (x_0, eps), strict=True
    ):
        assert torch.allclose(found, true, atol=1e-10)


@pytest.mark.parametrize('other', PREDICTIONS)
@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_an_arbitrary_prediction_converted_to_another_target_means_the_same(prediction, other):
    output, x_t, _ = images(1)
    signal, noise = levels(500)
    meant = clean_and_noise(prediction, output, x_t, signal, noise)
    converted = prediction_target(other, *meant, signal, noise)
    for a, b in zip(clean_and_noise(other, converted, x_t, signal, noise), meant, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def perfect(prediction, x_0):
    def predict(x_t, t):
        signal, noise = levels(t[0])
        eps = (x_t - signal * x_0) / noise
        return prediction_target(prediction, x_0, eps, signal, noise)

    return predict


@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('steps', [1, 2, 4, 10, [900, 20]])
@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_a_perfect_predictor_of_each_target_recovers_the_clean_image(prediction, steps, eta):
    x_0, x_T, y = images()
    process = DDPMProcess(sampling_steps=steps, eta=eta, prediction=prediction)
    generator = torch.Generator().manual_seed(0)
    sampled = process.sample(perfect(prediction, x_0), x_T, y, generator=generator)
    assert torch.allclose(sampled, x_0, atol=1e-9)


@pytest.mark.parametrize('steps', [1, 4])
def test_the_last_predicted_clean_image_is_the_result_itself(steps):
    outputs = [images(seed, torch.float32)[0] for seed in range(steps)]
    remaining = iter(outputs)
    process = DDPMProcess(sampling_steps=steps, prediction='clean')
    sampled = process.sample(lambda x_t, t: next(remaining), *images(9, torch.float32)[1:])
    assert torch.equal(sampled, outputs[-1])


@pytest.mark.parametrize('grad_steps', [None, 1, 2])
@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_checkpointed_steps_give_the_same_gradient(prediction, grad_steps):
    def gradient(checkpoint):
        scale = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        process = DDPMProcess(prediction=prediction)
        sampled = process.sample(
            lambda x_t, t: torch.tanh(scale * x_t), *images()[1:],
            grad_steps=grad_steps, checkpoint=checkpoint,
        )  # fmt: skip
        sampled.square().sum().backward()
        return scale.grad

    assert gradient(True) == gradient(False) != 0


def test_noise_cannot_be_predicted_where_nothing_of_the_image_is_left():
    schedule = NoiseSchedule(make_betas('jsd', num_timesteps=10))
    with pytest.raises(ValueError, match='prediction: noise is not possible at timestep 9'):
        DDPMProcess(schedule, sampling_steps=2)
    x_0, x_T, y = images()
    process = DDPMProcess(schedule, sampling_steps=2, prediction='clean')
    assert torch.equal(process.sample(lambda x_t, t: x_0, x_T, y), x_0)


@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_the_coarse_stage_compares_the_prediction_with_its_target(prediction):
    x_0, eps, y = images(dtype=torch.float32)
    gt, lq = (x_0 + 1) / 2, (y + 1) / 2
    stage = CoarseStage(tiny_network(), DDPMProcess(prediction=prediction), lambda a, b: (a, b))
    t = torch.tensor([5, 900])
    with torch.no_grad():
        terms = stage(lq, gt, eps, t)
    assert list(terms) == [f'l_{prediction}']
    _, target = terms[f'l_{prediction}']
    for image, timestep in enumerate(t):
        expected = prediction_target(prediction, to_signed(gt), eps, *levels(timestep))[image]
        assert torch.allclose(target[image], expected, atol=1e-5)


def noise_predictor(skip):
    backbone = EDSR(num_in_ch=7, num_out_ch=3, num_feat=8, num_block=1, upscale=1)
    return NoisePredictor(backbone, skip=skip)


@pytest.mark.parametrize('build', [tiny_network, noise_predictor])
@pytest.mark.parametrize('skip', ['noisy', 'degraded', 'none'])
@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_both_stages_train_every_parameter_with_every_target_and_skip(prediction, skip, build):
    gt, eps, lq = images(dtype=torch.float32)
    process = DDPMProcess(sampling_steps=2, prediction=prediction)
    network = build(skip=skip)
    stages = [
        CoarseStage(network, process, nn.L1Loss()),
        FineStage(network, process, {'l_pix': nn.L1Loss()}, {'l_ssim': SSIMLoss()}),
    ]
    for stage in stages:
        network.zero_grad()
        sum(stage((lq + 1) / 2, (gt + 1) / 2, eps, torch.tensor([9, 990])).values()).backward()
        without = [name for name, p in network.named_parameters() if not p.grad.abs().sum() > 0]
        assert without == []


def identity_network(kind):
    network = tiny_network(kind, skip='degraded')
    nn.init.zeros_(network.output.weight)
    return network


@pytest.mark.parametrize('steps', [1, 4])
@pytest.mark.parametrize('kind', [PlainDFT, DFT])
@pytest.mark.parametrize(
    'tiles',
    [{}, {'tile': 16, 'tile_overlap': 8}, {'tile': 16, 'tile_overlap': 8, 'tile_blend': 'mean'}],
    ids=['whole', 'tiles', 'patches'],
)
def test_an_untrained_residual_network_returns_the_input(kind, steps, tiles):
    image = torch.rand(3, 21, 30, generator=torch.Generator().manual_seed(0))
    process = DDPMProcess(sampling_steps=steps, prediction='clean')
    restored = restore(identity_network(kind), image, process=process, **tiles)
    assert torch.allclose(restored, image, atol=1e-6)


@pytest.mark.parametrize('blend', ['smooth', 'mean'])
@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_what_is_in_one_tile_alone_is_restored_as_in_the_whole_image(prediction, blend):
    network = noise_predictor('none')  # it sees four 3x3 convolutions far
    image = torch.rand(3, 32, 40, generator=torch.Generator().manual_seed(0))
    process = DDPMProcess(sampling_steps=1, prediction=prediction)
    tiles = {'tile': 24, 'tile_overlap': 12, 'tile_blend': blend}
    whole, tiled = (restore(network, image, process=process, **t) for t in ({}, tiles))
    assert torch.allclose(tiled[:, :8, :12], whole[:, :8, :12], atol=1e-5)
    assert not torch.allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize('grad_steps', [1, 2])
@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_the_gradient_of_the_last_steps_is_that_of_a_sample_begun_there(prediction, grad_steps):
    _, x_T, y = images()
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def predict(x_t, t):
        return scale * (x_t - y)

    whole = DDPMProcess(sampling_steps=3, prediction=prediction)
    (found,) = torch.autograd.grad(
        whole.sample(predict, x_T, y, grad_steps=grad_steps).sum(), scale
    )
    x_t = x_T
    for number, (t, t_next) in enumerate(itertools.pairwise((*whole.timesteps, -1))):
        if number <= 3 - grad_steps:
            x_t = x_t.detach()
        signal, noise = levels(t)
        clean, eps = clean_and_noise(prediction, predict(x_t, t), x_t, signal, noise)
        signal, noise = levels(t_next)
        x_t = signal * clean + noise * eps
    (expected,) = torch.autograd.grad(x_t.sum(), scale)
    assert torch.allclose(found, expected, rtol=1e-9)


def test_an_untrained_residual_network_returns_the_input_in_training_and_by_row_bands():
    network = identity_network(DFT)
    x, t = torch.rand(2, 6, 16, 24) * 2 - 1, torch.tensor([999, 3])
    assert torch.equal(network(x, t), x[:, :3])
    with torch.no_grad(), network.inference_settings(band_pixels=48):
        assert torch.equal(network(x, t), x[:, :3])


def test_only_predicted_noise_makes_the_first_calls_float32():
    times = {p: float32_from(DDPMProcess(prediction=p)) for p in PREDICTIONS}
    assert times == {'noise': None, 'clean': math.inf, 'velocity': math.inf}
    settings = InferenceSettings('bf16', float32_from=math.inf)
    cuda = torch.device('cuda')
    assert {settings.dtype(cuda, t) for t in (0, 999)} == {torch.bfloat16}


@pytest.mark.parametrize('eta', [0.0, 1.0])
def test_a_perfect_clean_image_is_recovered_under_ir_sde(eta):
    x_0, eps, y = images()
    process = IRSDEProcess(sampling_steps=4, eta=eta, prediction='clean')
    generator = torch.Generator().manual_seed(0)
    x_T = process.initial_sample(y, eps)
    sampled = process.sample(lambda x_t, t: x_0, x_T, y, generator=generator)
    assert torch.allclose(sampled, x_0, atol=1e-12)


@pytest.mark.parametrize('objective', ['noise', 'maximum_likelihood'])
def test_ir_sde_compares_clean_images_or_the_states_that_they_lead_to(objective):
    x_0, eps, y = images()
    t = torch.tensor([3, 70])
    noise, clean = (IRSDEProcess(objective=objective, prediction=p) for p in ('noise', 'clean'))
    x_t = noise.q_sample(x_0, y, eps, t)
    from_clean = clean.objective(x_0, x_t, x_0, y, eps, t)
    if objective == 'noise':
        assert torch.equal(from_clean[0], x_0) and torch.equal(from_clean[1], x_0)
        return
    for a, b in zip(from_clean, noise.objective(eps, x_t, x_0, y, eps, t), strict=True):
        assert torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize(
    'section, words',
    [
        ({'prediction': 'clear'}, 'diffusion: prediction: .clear. must be .*"clean"'),
        ({'prediction': 'eps'}, "'noise', 'clean' or 'velocity'"),
        ({'process': 'ir_sde', 'prediction': 'velocity'}, 'ir_sde are noise and clean'),
        (
            {'beta_schedule': 'jsd', 'num_diffusion_timesteps': 5},
            'diffusion: prediction: noise is not possible at timestep 4',
        ),
    ],
)
def test_targets_that_cannot_be_are_refused(section, words):
    with pytest.raises(OptionError, match=words):
        build_process(parse_section(DiffusionOptions, section, 'diffusion'))
