"""Iterations whose loss or gradient is not finite."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from c2fdft_arch.common import distributed
from c2fdft_model.training.ema import ModelEMA
from c2fdft_model.training.non_finite_guard import NonFiniteGuard, TrainingDiverged
from c2fdft_model.training.step import (
    fused_if_possible,
    gradient_norm,
    step_if_finite,
    with_fusion_of,
)

NAN = float('nan')


def guard(max_bad: int = 3) -> tuple[NonFiniteGuard, list[str]]:
    reports: list[str] = []
    return NonFiniteGuard(max_bad, reports.append, lambda: 'models/net_g_8.pth'), reports


def metrics(loss: float, norm: float = 1.0) -> dict[str, torch.Tensor]:
    return {'l_noise': torch.tensor(loss), 'grad_norm': torch.tensor(norm)}


def run(checker: NonFiniteGuard, losses: list[float]) -> None:
    for iteration, loss in enumerate(losses, start=1):
        given = metrics(loss)
        flags = checker.check(given)
        checker.record(iteration, given, flags, [3e-4], ['rain-7', 'rain-9'])


@pytest.mark.parametrize('bad', [NAN, float('inf'), -float('inf')])
def test_a_loss_that_is_not_finite_is_bad(bad):
    checker, _ = guard()
    assert checker.check(metrics(bad)).tolist() == [1, 0]


def test_a_gradient_that_is_not_finite_is_bad():
    checker, _ = guard()
    assert checker.check(metrics(0.5, norm=NAN)).tolist() == [1, 0]


def test_finite_numbers_are_good():
    checker, _ = guard()
    assert checker.check(metrics(0.5)).tolist() == [0, 0]


def test_a_skipped_iteration_is_reported_with_loss_iteration_lr_and_images():
    checker, reports = guard()
    run(checker, [0.5, NAN, 0.5])
    assert reports == [
        'Iteration 2 skipped, l_noise not finite: l_noise nan, grad_norm 1.0000e+00; '
        'lr 3.000e-04; images: rain-7, rain-9.'
    ]


def test_so_many_bad_iterations_in_a_row_stop_the_training_and_name_the_last_checkpoint():
    checker, _ = guard(max_bad=3)
    with pytest.raises(TrainingDiverged, match=r'3 iterations in a row, up to 4.*net_g_8\.pth'):
        run(checker, [0.5, NAN, NAN, NAN])


def test_a_good_iteration_in_between_starts_the_count_anew():
    checker, _ = guard(max_bad=3)
    run(checker, [NAN, NAN, 0.5, NAN, NAN])
    assert (checker.bad_in_a_row, checker.skipped) == (2, 4)


@pytest.mark.parametrize(
    ('losses', 'norm', 'named'),
    [
        ([0.5, NAN], NAN, {1: 'l_noise, grad_norm'}),
        ([NAN, NAN], NAN, {0: 'l_noise, grad_norm', 1: 'l_noise, grad_norm'}),
        ([0.5, 0.5], NAN, {0: 'grad_norm', 1: 'grad_norm'}),
    ],
)
def test_the_ranks_that_were_the_cause_are_named_with_their_images(
    monkeypatch, losses, norm, named
):
    checker, reports = guard()
    ranks = [({'l_noise': loss, 'grad_norm': norm}, [f'of-{k}']) for k, loss in enumerate(losses)]
    monkeypatch.setattr(distributed, 'gather_objects', lambda own: ranks)
    run(checker, [NAN])
    assert len(reports) == len(named)
    for (rank, names), report in zip(named.items(), reports, strict=True):
        assert f'skipped, {names} not finite in rank {rank}: ' in report
        assert report.endswith(f'images: of-{rank}.')


def test_counters_go_on_from_a_training_state():
    before, after = guard(max_bad=3)[0], guard(max_bad=3)[0]
    run(before, [NAN, 0.5, NAN, NAN])
    after.load_state_dict(before.state_dict())
    assert (after.bad_in_a_row, after.skipped) == (2, 3)
    with pytest.raises(TrainingDiverged, match='3 iterations in a row'):
        run(after, [NAN])


def test_a_training_state_without_counters_starts_them_at_zero():
    checker, _ = guard()
    checker.load_state_dict({})
    assert (checker.bad_in_a_row, checker.skipped) == (0, 0)


def test_every_finite_iteration_is_told():
    told: list[int] = []
    checker = NonFiniteGuard(9, print, lambda: '', lambda: told.append(checker.skipped))
    run(checker, [0.5, NAN, NAN, 0.5])
    assert told == [0, 2]


class Trained:
    """A layer, its optimiser after two steps, and its averaged weights."""

    def __init__(self, optimizer_class: type = torch.optim.AdamW) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(3, 2)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.parameters = list(self.network.parameters())
        self.optimizer = (
            fused_if_possible(optimizer_class, self.parameters, lr=0.1)
            if optimizer_class is torch.optim.AdamW
            else optimizer_class(self.parameters, lr=0.1, momentum=0.9)
        )
        self.ema = ModelEMA(self.averaged, self.network, 0.9)
        for _ in range(2):
            self.step(1.0)

    def step(self, gradient: float) -> None:
        for parameter in self.parameters:
            parameter.grad = torch.full_like(parameter, gradient)
        checker, _ = guard()
        flags = checker.check({'grad_norm': gradient_norm(self.parameters)})
        step_if_finite(flags[0], self.optimizer, self.ema, 1)

    def everything(self) -> list[torch.Tensor]:
        moments = [
            value.clone()
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]
        weights = [*self.parameters, *self.averaged.parameters()]
        return [value.detach().clone() for value in weights] + moments


@pytest.mark.parametrize('optimizer_class', [torch.optim.AdamW, torch.optim.SGD])
def test_a_bad_iteration_leaves_weights_average_and_optimiser_as_they_were(optimizer_class):
    trained = Trained(optimizer_class)
    before = trained.everything()
    trained.step(NAN)
    assert all(map(torch.equal, trained.everything(), before))


@pytest.mark.parametrize('optimizer_class', [torch.optim.AdamW, torch.optim.SGD])
def test_a_good_iteration_after_a_bad_one_is_as_if_the_bad_one_had_not_been(optimizer_class):
    trained, untroubled = Trained(optimizer_class), Trained(optimizer_class)
    trained.step(NAN)
    trained.step(0.5)
    untroubled.step(0.5)
    assert all(map(torch.equal, trained.everything(), untroubled.everything()))


def test_adamw_is_fused_so_that_the_flag_stays_on_the_device():
    assert Trained().optimizer.param_groups[0]['fused'] is True


def test_an_optimiser_state_takes_the_fusion_of_the_optimiser_that_loads_it():
    parameter = [torch.nn.Parameter(torch.ones(2))]
    saved = torch.optim.AdamW(parameter, lr=0.1, foreach=True)
    loading = torch.optim.AdamW(parameter, lr=0.1, fused=True)
    loading.load_state_dict(with_fusion_of(loading, saved.state_dict()))
    assert (loading.param_groups[0]['fused'], loading.param_groups[0]['foreach']) == (True, None)


def test_a_fused_step_is_the_step_of_adamw():
    trained = Trained()
    torch.manual_seed(0)
    plain = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.1)
    for _ in range(2):
        for parameter in plain.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    for fused, one in zip(trained.parameters, plain.parameters(), strict=True):
        torch.testing.assert_close(fused, one)


@pytest.mark.parametrize('found_inf', [0.0, 1.0])
def test_the_average_is_the_same_with_the_flag_on_the_device(found_inf):
    host, device = Trained(), Trained()
    flag = torch.tensor(found_inf)
    host.ema.update(flag, 1)
    device.ema._update_on_device(flag, 1 - device.ema.decay_in(1))
    for one, other in zip(host.averaged.parameters(), device.averaged.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_average_moves_by_one_minus_decay():
    network, averaged = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(network.weight, 2.0)
    nn.init.constant_(averaged.weight, 1.0)
    ModelEMA(averaged, network, 0.75).update(torch.zeros(()), 1)
    assert averaged.weight.item() == 1.25


def test_an_average_that_warms_up_forgets_its_start():
    network, averaged = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(network.weight, 2.0)
    nn.init.constant_(averaged.weight, 1.0)
    ema = ModelEMA(averaged, network, 0.75, warmup=True)
    for iteration, decay in ((1, 2 / 11), (8, 0.5), (26, 0.75), (1000, 0.75)):
        assert ema.decay_in(iteration) == decay
    ema.update(torch.zeros(()), 1)
    assert averaged.weight.item() == pytest.approx(2 - 2 / 11)


@pytest.mark.parametrize(('limit', 'norm_after'), [(None, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_clipping_limits_the_norm_of_all_gradients_together(limit, norm_after):
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([-4.0])
    assert gradient_norm(parameters, limit).item() == 5.0
    assert gradient_norm(parameters).item() == pytest.approx(norm_after, rel=1e-5)
