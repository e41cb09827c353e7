"""Train, test and show: `bash scripts/demo.sh` runs this in its environment."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

from demo import report
from demo.data import DataSettings, prepare
from demo.stages import Record, Stage, StageFailed, perform, readable

ROOT = Path(__file__).resolve().parents[2]
DATA = Path('datasets/demo')
RESULTS = Path('results/demo')
OPTIONS = Path('options')
TESTS = {'coarse': 'demo_test_coarse', 'fine': 'demo_test'}


def checkpoint(stage: str) -> Path:
    """Where BasicSR leaves the weights of a training stage."""
    return Path('experiments') / f'demo_{stage}' / 'models' / 'net_g_latest.pth'


def training_stage(stage: str, inputs: str) -> Stage:
    """The BasicSR run that trains `stage`."""
    return Stage(
        key=stage,
        title=f'{stage} training',
        script='scripts/train.py',
        options=OPTIONS / f'demo_{stage}.yml',
        experiment=Path('experiments') / f'demo_{stage}',
        product=checkpoint(stage),
        inputs=inputs,
    )


def test_stage(stage: str, inputs: str) -> Stage:
    """The BasicSR run that restores the held-out photographs with the weights of `stage`."""
    name = TESTS[stage]
    return Stage(
        key=f'test_{stage}',
        title=f'test of {stage}',
        script='scripts/test.py',
        options=OPTIONS / 'demo_test.yml',
        experiment=Path('results') / name,
        product=Path('results') / name / 'visualization',
        inputs=inputs,
        arguments=(
            '--force_yml',
            f'name={name}',
            f'path:pretrain_network_g={checkpoint(stage)}',
        ),
    )


def remove_everything() -> None:
    """Remove what earlier demos left."""
    for folder in [DATA, RESULTS]:
        shutil.rmtree(folder, ignore_errors=True)
    for parent in ('experiments', 'results', 'tb_logger'):
        for folder in Path(parent).glob('demo_*'):
            shutil.rmtree(folder, ignore_errors=True)


def run() -> None:
    """Data, training, tests and report, each reused if it is there."""
    settings = DataSettings()
    print('data: ' + ', '.join(Path(name).stem for name in settings.train_photos))
    print('held out: ' + ', '.join(Path(name).stem for name in settings.held_out_photos))
    written = prepare(DATA, settings)
    print(f'data: {"written to" if written else "reused from"} {DATA}', flush=True)

    record = Record(RESULTS / 'stages.json')
    seconds: dict[str, float] = {}
    coarse = training_stage('coarse', settings.fingerprint())
    fine = training_stage('fine', coarse.fingerprint())
    seconds['coarse'] = perform(coarse, record, RESULTS / 'coarse.log')
    seconds['fine'] = perform(fine, record, RESULTS / 'fine.log')
    seconds['test'] = 0.0
    for stage in (coarse, fine):
        test = test_stage(stage.key, stage.fingerprint())
        seconds['test'] += perform(test, record, RESULTS / f'{test.key}.log')
    show_results(seconds)


def show_results(seconds: dict[str, float]) -> None:
    """Write the summary and the picture, print the table and where they are."""
    name = 'demo_held_out'
    images = report.read_results(
        {
            'input': (DATA / 'test' / 'input', '.png'),
            'target': (DATA / 'test' / 'target', '.png'),
            **{
                stage: (Path('results') / test / 'visualization' / name, f'_{test}.png')
                for stage, test in TESTS.items()
            },
        }
    )
    scores = report.score(images)
    report.write_summary(RESULTS / 'summary.json', scores, seconds)
    report.write_comparison(RESULTS / 'comparison.png', images, scores)
    print(f'\nHeld-out photographs, PSNR (dB) and SSIM on Y\n\n{report.table(scores)}\n')
    print(report.gains(scores))
    print('time: ' + ', '.join(f'{stage} {readable(s)}' for stage, s in seconds.items()))
    print(f'picture: {(RESULTS / "comparison.png").resolve()}')
    print(f'figures: {(RESULTS / "summary.json").resolve()}')


def main() -> int:
    """Parse the command line, run, and turn failures into messages."""
    parser = argparse.ArgumentParser(prog='scripts/demo.sh', description=__doc__)
    parser.add_argument('--fresh', action='store_true', help='remove earlier results, start over')
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.fresh:
            remove_everything()
        run()
    except (StageFailed, FileNotFoundError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ninterrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    import os

    os.chdir(ROOT)
    sys.exit(main())
