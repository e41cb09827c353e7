"""Goals of predicting the clean image: verdicts follow the figures, and the report as JSON."""

from __future__ import annotations

import json

import pytest
from documents.replication_tables import TABLES

from replication import goals, report, runner
from replication.claims import FAILS, HOLDS
from replication.figures import command
from replication.goals import NOT_MEASURED

FIGURES = {
    'input': 23.0,
    'noise_coarse': 24.0,
    'noise_fine': 25.0,
    'clean_coarse': 28.0,
    'clean_fine': 29.0,
    'one_call': 29.5,
    'seconds_1': 0.5,
    'seconds_4': 2.0,
    'clean_curve': (26.0, 27.0),
    'clean_iteration_seconds': 0.1,
}


def curve(first: float, last: float, seconds: float = 0.1) -> list[dict[str, float]]:
    """Of a training of 100 iterations, tested after 10 and at its end."""
    points = ((10, first), (100, last))
    return [{'iteration': k, 'seconds': k * seconds, 'psnr': psnr} for k, psnr in points]


def metrics(seeds: int = 3, **changes) -> dict:
    """What trainings of the noise and of the clean image gave, the same for every seed."""
    f = FIGURES | changes
    seconds = {'1': f['seconds_1'], '2': 1.0, '4': f['seconds_4'], '10': 5.0}

    def content(psnr: float, points: list, **more) -> dict:
        degraded = {'psnr': f['input'], 'ssim': 0.5}
        scores = {'psnr': psnr, 'ssim': 0.8, 'seconds': 1.0, 'degraded': degraded}
        return {**scores, 'iterations': 100, 'training_seconds': 10.0, 'curve': points, **more}

    def coarse(psnr: float, points: list) -> dict:
        steps = {k: {'psnr': psnr, 'ssim': 0.7, 'seconds': s} for k, s in seconds.items()}
        return content(psnr, points, steps=steps, sweep=steps)

    slow = f['clean_iteration_seconds']
    trainings = {
        'coarse': coarse(f['noise_coarse'], curve(20, 24)),
        'fine': content(f['noise_fine'], curve(24, 25)),
        'clean_coarse': coarse(f['clean_coarse'], curve(*f['clean_curve'], slow)),
        'clean_fine_4': content(f['clean_fine'], curve(28, 29, slow)),
        'clean_fine_2': content(f['clean_fine'], curve(28, 29, slow)),
        'clean_fine_1': content(f['one_call'], curve(28, 29, slow)),
    }
    return {name: dict.fromkeys(range(seeds), value) for name, value in trainings.items()}


def entries(measured: dict) -> dict[tuple[str, str], dict]:
    found = goals.goal_entries(dict.fromkeys(('rain', 'noise', 'blur'), measured))
    return {(entry['name'], entry['task']): entry for entry in found}


@pytest.mark.parametrize(
    ('name', 'task', 'figure', 'change', 'other_figure'),
    [
        ('coarse_gain', 'rain', 4.0, {'noise_coarse': 25.5}, 2.5),
        ('fine_gain', 'noise', 4.0, {'clean_fine': 27.9}, 2.9),
        ('above_input', 'blur', 5.0, {'one_call': 22.9}, -0.1),
        ('above_input', 'blur', 5.0, {'clean_coarse': 22.9}, -0.1),
        ('time_in_iterations', 'rain', 20.0, {'clean_curve': (24.9, 25.1)}, 2.0),
        ('time_in_seconds', 'noise', 20.0, {'clean_iteration_seconds': 0.5}, 4.0),
        ('one_call_speed', 'blur', 4.0, {'seconds_4': 1.7}, 3.4),
        ('one_call_psnr', 'rain', 0.5, {'one_call': 28.9}, -0.1),
    ],
)
def test_a_verdict_flips_with_the_figure(name, task, figure, change, other_figure):
    for changes, value, verdict in (({}, figure, HOLDS), (change, other_figure, FAILS)):
        entry = entries(metrics(**changes))[name, task]
        assert entry['figure'] == pytest.approx(value)
        assert entry['each'] == pytest.approx([value] * 3)
        assert entry['verdict'] == verdict


def test_one_seed_below_the_input_is_enough_but_means_decide_about_gains():
    measured = metrics()
    measured['clean_fine_1'][1] = {**measured['clean_fine_1'][1], 'psnr': 22.5}
    found = entries(measured)
    assert found['above_input', 'blur']['each'] == [5.0, -0.5, 5.0]
    assert found['above_input', 'blur']['verdict'] == FAILS
    measured['fine'][1] = {**measured['fine'][1], 'psnr': 27.0}
    found = entries(measured)
    assert found['fine_gain', 'rain']['each'] == [4.0, 2.0, 4.0]
    assert found['fine_gain', 'rain']['verdict'] == HOLDS


def test_a_quality_that_a_seed_never_reaches_is_no_time():
    measured = metrics()
    for name in ('clean_coarse', 'clean_fine_4'):
        measured[name][2] = {**measured[name][2], 'curve': curve(10, 24.9)}
    entry = entries(measured)['time_in_iterations', 'rain']
    assert (entry['figure'], entry['each'], entry['verdict']) == (None, [20.0, 20.0, None], FAILS)
    table = '\n'.join(goals.goal_table([entry], 3))
    assert '| not reached | 20.0, 20.0, not reached | does not hold |' in table


def test_without_data_nothing_is_said_to_hold():
    found = goals.goal_entries({})
    assert {(entry['verdict'], entry['seeds']) for entry in found} == {(NOT_MEASURED, 0)}
    assert {entry['task'] for entry in found} == {'rain', 'noise', 'blur'}
    assert goals.goal_table(found, 3)[2].endswith('| +3 dB | – | – | not measured |')
    only_noise = {name: metrics()[name] for name in ('coarse', 'fine')}
    assert {entry['verdict'] for entry in entries(only_noise).values()} == {NOT_MEASURED}


def test_a_verdict_of_fewer_seeds_says_so():
    entry = entries(metrics(seeds=2))['fine_gain', 'rain']
    assert goals.goal_table([entry], 3)[-1].endswith('| holds (2 of 3 seeds) |')
    assert goals.goal_table([entry], 2)[-1].endswith('| holds |')


@pytest.fixture
def written(tmp_path):
    """A folder with the report of rain and noise, of two and one of two seeds, and its JSON."""
    plan = runner.Plan(27, 2, ('rain', 'noise', 'blur'), '/home/me/photographs')
    for task, seeds in (('rain', 2), ('noise', 1)):
        for name, by_seed in metrics(seeds).items():
            for seed, content in by_seed.items():
                file = runner.metrics_file(tmp_path, task, seed, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                shifted = {**content, 'psnr': content['psnr'] + seed}
                file.write_text(json.dumps(shifted))
    text, data = report.write_report(tmp_path, plan, ['targets'], with_plots=False)

    def no_constants(name):
        raise AssertionError(f'{name} is no JSON')

    return text.read_text(), json.loads(data.read_text(), parse_constant=no_constants)


def test_a_report_without_the_targets_has_none_of_their_goals(tmp_path):
    plan = runner.Plan(27, 2, ('rain',), None)
    text, data = report.write_report(tmp_path, plan, ['tables'], with_plots=False)
    assert 'clean image is to bring' not in text.read_text()
    assert json.loads(data.read_text())['goals'] == []


def test_the_json_has_means_and_spreads_of_every_task_target_stage_and_calls(written):
    _, content = written
    found = {(c['task'], c['target'], c['stage'], c['calls']): c for c in content['cases']}
    steps = (1, 2, 4, 10)
    coarse = {(target, 'coarse', calls) for target in ('noise', 'clean') for calls in steps}
    fine = {('noise', 'fine', 4), *(('clean', 'fine', calls) for calls in (4, 2, 1))}
    assert found.keys() == {(task, *key) for task in ('rain', 'noise') for key in coarse | fine}
    case = found['rain', 'clean', 'fine', 1]
    assert case['seeds'] == 2
    assert case['psnr'] == pytest.approx({'mean': 30.0, 'std': 0.5**0.5})
    assert found['noise', 'clean', 'fine', 1]['psnr'] == {'mean': 29.5, 'std': None}
    assert found['rain', 'noise', 'coarse', 4]['seconds']['mean'] == 2.0
    assert content['degraded'][0] == {'task': 'rain', 'psnr': 23.0, 'ssim': 0.5}
    assert {t['calls'] for t in content['times'] if t['target'] == 'clean'} == {4, 2, 1}
    assert {c['task'] for c in content['claims']} == {'rain', 'noise'}


def test_the_json_says_how_it_was_made_without_folders_of_this_machine(written):
    _, content = written
    assert content['command'] == (
        'python scripts/replicate.py --iterations 27 --seeds 2 --rows targets --photos FOLDER'
    )
    some = runner.Plan(27, 3, ('blur',), None)
    assert command(some, ['tables', 'targets']) == (
        'python scripts/replicate.py --iterations 27 --seeds 3 --rows tables targets --tasks blur'
    )
    assert content['machine']['cpu']
    assert content['plan']['iterations'] == {'coarse': 27, 'fine': 9}
    assert '/home' not in json.dumps(content)


def test_the_report_and_the_documents_show_the_same_verdicts(written):
    text, content = written
    for line in TABLES['goals'](content):
        assert f'{line}\n' in text
    assert (
        '| fine, 4 calls: clean above noise | noise | +3 dB | +4.00 dB | +4.00 | holds (1' in text
    )
    assert 'not measured' in text.split('## rain')[0]
    assert (
        TABLES['targets'](content)[2] == '| degraded images |  |  | 23.00 / 0.500 | 23.00 / 0.500 |'
    )
    assert '| rain | clean | 1 | 2 of 2 | 10 ± 0 | 1 ± 0 s | 20.0 ± 0.0 | 20.0 ± 0.0 |' in (
        TABLES['times'](content)
    )
    fine_beats = [line for line in TABLES['claims'](content) if 'fine, 4 calls: clean' in line]
    assert len(fine_beats) == 2 and '+4.00 ± 0.00 dB | holds |' in fine_beats[0]
