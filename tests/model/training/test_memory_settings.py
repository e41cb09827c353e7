"""Settings that save memory or time give the gradients that training without them gives."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from c2fdft_arch.common import hardware
from c2fdft_arch.common.option_parsing import OptionError, parse_section
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.training.stages import FineStage
from c2fdft_model.training.step import accumulate_gradients
from helpers.stage_gradients import (
    BATCH,
    assert_same_gradients,
    batch,
    build_stage,
    gradients,
    tiny_network,
)

STAGES = ('coarse', 'fine')


@pytest.fixture(scope='module')
def plain() -> dict[str, dict[str, torch.Tensor]]:
    return {kind: gradients(kind) for kind in STAGES}


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert_same_gradients(one, other)
    for name in one:
        if name.startswith('loss'):
            torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-6)


def test_every_parameter_receives_a_gradient(plain):
    names = {name for name, _ in tiny_network().named_parameters()}
    for kind in STAGES:
        assert names <= plain[kind].keys()
        assert all(plain[kind][name].abs().max() > 0 for name in names)


@pytest.mark.parametrize('kind', STAGES)
@pytest.mark.parametrize('parts', [2, 3, BATCH + 1])
def test_parts_of_a_batch_add_up_to_its_gradients(plain, kind, parts):
    assert_same(gradients(kind, parts=parts), plain[kind])


def test_checkpointed_steps_have_the_same_gradients(plain):
    assert_same(gradients('fine', checkpoint=True), plain['fine'])


@pytest.mark.parametrize('kind', STAGES)
def test_checkpointed_blocks_have_the_same_gradients(plain, kind):
    assert_same(gradients(kind, blocks=True), plain[kind])


def test_checkpointed_blocks_and_parts_together_have_the_same_gradients(plain):
    assert_same(gradients('fine', blocks=True, parts=2), plain['fine'])


@pytest.mark.parametrize('count', [1, 2])
def test_grad_steps_is_the_gradient_with_the_state_before_them_held_constant(count):
    network = tiny_network()
    accumulate_gradients(build_stage('fine', network, grad_steps=count), batch())
    found = {name: p.grad for name, p in network.named_parameters()}
    assert_same(found, definition_of_grad_steps(count))


def definition_of_grad_steps(count: int) -> dict[str, torch.Tensor]:
    """Sample, written out (Song et al., Eq. 12), with gradients in the last `count` steps only."""
    network = tiny_network()
    lq, gt, x_t, _ = batch()
    process = DDPMProcess(sampling_steps=3)

    def step(x_t, t, t_next):
        now = process.schedule.alpha_bar_at(t)
        after = process.schedule.alpha_bar_at(t_next)
        noise = network(torch.cat([2 * lq - 1, x_t], dim=1), torch.full((BATCH,), t))
        x_0 = (x_t - (1 - now) ** 0.5 * noise) / now**0.5
        return after**0.5 * x_0 + (1 - after) ** 0.5 * noise

    timesteps = process.timesteps
    for k, (t, t_next) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
        with torch.set_grad_enabled(k >= len(timesteps) - count):
            x_t = step(x_t, t, t_next)
    stage = build_stage('fine', network)
    loss = stage.signed_losses['l_pix'](x_t, 2 * gt - 1)
    (loss + stage.unit_losses['l_ssim']((x_t + 1) / 2, gt)).backward()
    return {name: p.grad for name, p in network.named_parameters()}


def test_grad_steps_of_all_steps_is_the_default(plain):
    assert_same(gradients('fine', grad_steps=3), plain['fine'])


def kept_for_backward(stage: nn.Module) -> int:
    """Bytes of what one forward pass keeps for back-propagation, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in stage.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        terms = stage(*batch())
    assert all(term.requires_grad for term in terms.values())
    return sum(kept.values())


def test_checkpointed_steps_keep_less_than_a_twentieth():
    plain, checkpointed = (
        kept_for_backward(build_stage('fine', tiny_network(), checkpoint=flag))
        for flag in (False, True)
    )
    assert checkpointed < plain / 20


@pytest.mark.parametrize('kind', STAGES)
def test_checkpointed_blocks_keep_less_than_half(kind):
    plain, checkpointed = tiny_network(), tiny_network()
    checkpointed.checkpoint_blocks = True
    kept = [kept_for_backward(build_stage(kind, network)) for network in (plain, checkpointed)]
    assert kept[1] < kept[0] / 2


def test_gradients_of_one_step_of_three_keep_less_than_half():
    plain, last = (
        kept_for_backward(build_stage('fine', tiny_network(), grad_steps=steps))
        for steps in (None, 1)
    )
    assert last < plain / 2


def test_bf16_leaves_images_noise_and_losses_in_float32():
    network = tiny_network()
    seen: list[torch.dtype] = []
    network.register_forward_hook(lambda module, args, out: seen.append(args[0].dtype))
    loss = nn.L1Loss()
    loss.register_forward_hook(lambda module, args, out: seen.extend(a.dtype for a in args))
    stage = FineStage(network, DDPMProcess(sampling_steps=2), {'l_pix': loss}, {}, bf16=True)
    assert stage(*batch())['l_pix'].dtype == torch.float32
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize('kind', STAGES)
def test_bf16_gradients_point_where_those_of_float32_do(plain, kind):
    found = gradients(kind, bf16=True)
    names = [name for name in found if not name.startswith('loss')]
    one = torch.cat([found[name].flatten() for name in names])
    other = torch.cat([plain[kind][name].flatten() for name in names])
    assert torch.cosine_similarity(one, other, dim=0) > 0.99


def test_bf16_is_not_float32(plain, monkeypatch):
    monkeypatch.setattr(hardware, 'has_fast_bf16', lambda device_type: True)
    found = gradients('coarse', bf16=True)
    assert any(not torch.equal(found[name], value) for name, value in plain['coarse'].items())


@pytest.fixture
def quick_compiler(monkeypatch):
    """Trace and differentiate as the compiler does; the code it generates takes minutes."""
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='aot_eager'))
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize('kind', STAGES)
def test_compiled_networks_have_the_same_gradients(plain, quick_compiler, kind):
    assert_same(gradients(kind, compiled=True), plain[kind])


def test_compiling_leaves_the_network_and_its_parameter_names_alone(quick_compiler):
    network = tiny_network()
    names = list(network.state_dict())
    stage = build_stage('coarse', network, compiled=True)
    stage(*batch())
    assert list(network.state_dict()) == names
    assert [name.removeprefix('network.') for name in stage.state_dict()] == names


def test_compiling_and_checkpointed_blocks_exclude_each_other():
    section = {
        'stage': 'coarse', 'total_iter': 1, 'optim_g': {}, 'scheduler': {}, 'pixel_opt': {'a': 1},
        'compile': True, 'checkpoint': 'blocks',
    }  # fmt: skip
    with pytest.raises(OptionError, match='compile: true'):
        parse_section(TrainOptions, section, 'train')
