"""Option sections: every key known, typed and checked."""

from __future__ import annotations

import pytest

from c2fdft_arch.common.option_parsing import OptionError, Section, parse_section
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.validation.options import ValidationOptions

COARSE = {
    'stage': 'coarse',
    'total_iter': 10,
    'optim_g': {'type': 'AdamW', 'lr': 3e-4},
    'scheduler': {'type': 'CosineAnnealingRestartCyclicLR'},
    'pixel_opt': {'type': 'L1Loss'},
}
FINE = {**COARSE, 'stage': 'fine', 'ssim_opt': {'type': 'SSIMLoss'}}


def parse_train(**changes):
    return parse_section(TrainOptions, {**COARSE, **changes}, 'train')


def test_defaults_are_the_papers():
    options = parse_train()
    assert (options.ema_decay, options.use_grad_clip, options.accumulate) == (0.999, False, 1)
    diffusion = parse_section(DiffusionOptions, None, 'diffusion')
    assert (diffusion.beta_start, diffusion.beta_end) == (1e-4, 2e-2)
    assert (diffusion.num_diffusion_timesteps, diffusion.sampling_timesteps) == (1000, 4)


def test_the_process_of_the_options_calls_the_network_at_their_timesteps():
    options = parse_section(DiffusionOptions, {'sampling_timesteps': 3}, 'diffusion')
    assert build_process(options).timesteps == [999, 500, 0]
    options = parse_section(DiffusionOptions, {'sampling_timesteps': [0, 600]}, 'diffusion')
    assert build_process(options).timesteps == [600, 0]


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'stage': 'middle'}, ['stage', "'middle'", "'coarse' or 'fine'"]),
        ({'stage': 'corse'}, ['did you mean "coarse"']),
        ({'stage': None}, ['stage is missing', 'coarse']),
        ({'ema_deacy': 0.9}, ['ema_deacy', 'did you mean "ema_decay"', 'Known keys']),
        ({'ema_decay': 1.5}, ['ema_decay', '1.5', 'below 1']),
        ({'ema_decay': 'much'}, ['ema_decay', "'much'", 'a number']),
        ({'total_iter': 'all'}, ['total_iter', 'an integer']),
        ({'total_iter': 0}, ['total_iter', 'above 0']),
        ({'total_iter': 10.5}, ['total_iter', '10.5', 'an integer']),
        ({'use_grad_clip': 1}, ['use_grad_clip', 'true or false']),
        ({'accumulate': -2}, ['accumulate', '-2', 'above 0']),
        ({'amp': 'fp16'}, ['amp', "'off' or 'bf16'"]),
        ({'mixing_augs': {'mixup_bta': 1}}, ['mixing_augs', 'did you mean "mixup_beta"']),
        ({'mixing_augs': True}, ['mixing_augs', 'section']),
        ({'pixel_opt': None}, ['pixel_opt', 'L1Loss']),
        ({'ssim_opt': {'type': 'SSIMLoss'}}, ['ssim_opt', 'fine']),
        ({'grad_steps': 2}, ['grad_steps', 'fine']),
        ({'checkpoint': 'steps'}, ['checkpoint', 'none and blocks']),
        (
            {'override_on_resume': ['optim_g.rl']},
            ['override_on_resume', 'did you mean "optim_g.lr"'],
        ),
    ],
)
def test_an_error_names_the_key_the_value_and_what_is_allowed(changes, words):
    with pytest.raises(OptionError) as error:
        parse_train(**changes)
    for word in words:
        assert word in str(error.value)


def test_the_fine_stage_needs_a_loss():
    with pytest.raises(OptionError, match='ssim_opt'):
        parse_section(TrainOptions, {**COARSE, 'stage': 'fine', 'pixel_opt': None}, 'train')


def test_the_fine_stage_takes_its_own_keys():
    options = parse_section(TrainOptions, {**FINE, 'grad_steps': 1, 'checkpoint': 'steps'}, 'train')
    assert (options.grad_steps, options.checkpoint) == (1, 'steps')


def test_numbers_that_yaml_takes_for_text_are_numbers():
    assert parse_train(ema_decay='9e-1').ema_decay == 0.9


@pytest.mark.parametrize('text', ['1e-4', '"5e-1"', '.5', '1_0e-2'])
def test_every_way_to_write_a_number_is_one(text):
    assert parse_train(ema_decay=text.strip('"')).ema_decay == float(text.strip('"'))


def test_text_that_looks_like_a_number_stays_text_where_text_is_expected():
    assert parse_section(ValidationOptions, {'suffix': '1e4'}, 'val').suffix == '1e4'


def test_every_wrong_key_is_named_on_a_line_of_its_own():
    with pytest.raises(OptionError) as error:
        parse_train(ema_deacy=0.9, amp='fp16', mixing_augs={'mixup_bta': 1, 'mixup': 'no'})
    assert [line.partition(' ')[2].split()[0] for line in str(error.value).splitlines()] == [
        'mixing_augs:', 'mixing_augs:', 'amp:', 'ema_deacy',
    ]  # fmt: skip


def test_whole_floats_are_integers():
    assert parse_train(total_iter=3e5).total_iter == 300_000


def test_off_that_yaml_takes_for_false_is_off():
    assert parse_train(amp=False).amp == 'off'


@pytest.mark.parametrize(
    ('section', 'words'),
    [
        ({'beta_schedule': 'liner'}, ['beta_schedule', 'did you mean "linear"']),
        ({'sampling_timesteps': 'four'}, ['sampling_timesteps', 'an integer or a list']),
        ({'sampling_timesteps': [1, 'x']}, ['sampling_timesteps']),
        ({'sampling_timesteps': 0}, ['sampling_timesteps', '0']),
        ({'sampling_timesteps': [1000]}, ['sampling_timesteps', '999']),
        ({'beta_end': 3}, ['diffusion', 'beta_end', '3']),
        ({'eta': -1}, ['eta', '-1']),
        ({'process': 'sde'}, ['process']),
    ],
)
def test_impossible_processes_are_refused_by_key(section, words):
    with pytest.raises(OptionError) as error:
        build_process(parse_section(DiffusionOptions, section, 'diffusion'))
    for word in words:
        assert word in str(error.value)


def test_validation_rejects_unknown_keys_and_values():
    with pytest.raises(OptionError, match='did you mean "precision"'):
        parse_section(ValidationOptions, {'precison': 'bf16'}, 'val')
    with pytest.raises(OptionError, match='samples: 0'):
        parse_section(ValidationOptions, {'samples': 0}, 'val')


def test_sections_must_be_sections():
    with pytest.raises(OptionError, match='train'):
        parse_section(TrainOptions, ['stage', 'coarse'], 'train')


def test_lists_become_tuples_and_options_cannot_be_changed():
    class Listed(Section):
        numbers: tuple[int, ...] = ()

    options = parse_section(Listed, {'numbers': [1, 2]}, 'listed')
    assert options.numbers == (1, 2)
    with pytest.raises(ValueError, match='frozen'):
        options.numbers = (3,)
