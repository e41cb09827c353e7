"""Train, test and show: `bash scripts/demo.sh` runs this in its environment."""

import argparse
import os
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from c2fdft_model.experiments.files import digest
from demo import report
from demo.data import DataSettings, prepare
from demo.stages import Stage, StageFailed, perform, readable

ROOT = Path(__file__).resolve().parents[2]
DATA = Path('datasets/demo')
RESIDUAL, PAPER = 'demo', 'demo_paper'
"""What the names of a demo's option files and results begin with; what its network predicts is the
clean image as a difference to the rainy one, or the noise, as in the paper."""


def tests_of(demo: str) -> dict[str, str]:
    """The name of the test of each stage."""
    return {'coarse': f'{demo}_test_coarse', 'fine': f'{demo}_test'}


def training_stage(demo: str, stage: str, inputs: str) -> Stage:
    """The BasicSR run that trains `stage`."""
    experiment = Path('experiments') / f'{demo}_{stage}'
    return Stage(
        key=stage,
        title=f'{stage} training',
        script='scripts/train.py',
        options=Path(f'options/{demo}_{stage}.yml'),
        experiment=experiment,
        product=experiment / 'models' / 'net_g_latest.pth',
        inputs=inputs,
    )


def test_stage(demo: str, training: Stage) -> Stage:
    """The BasicSR run that restores the held-out photographs with the weights of a training."""
    name = tests_of(demo)[training.key]
    return Stage(
        key=f'test_{training.key}',
        title=f'test of {training.key}',
        script='scripts/test.py',
        options=Path(f'options/{demo}_test.yml'),
        experiment=Path('results') / name,
        product=Path('results') / name / 'visualization',
        inputs=training.fingerprint(),
        arguments=(
            *('--force_yml', f'name={name}'),
            f'path:pretrain_network_g={training.product}',
        ),
    )


def remove_everything() -> None:
    """Remove what earlier demos left."""
    runs = [p for top in ('experiments', 'results', 'tb_logger') for p in Path(top).glob('demo_*')]
    for folder in (DATA, Path('results') / RESIDUAL, *runs):
        shutil.rmtree(folder, ignore_errors=True)


def run(demo: str = RESIDUAL) -> None:
    """Data, training, tests and report, each reused if it is there."""
    settings = DataSettings()
    print('data: ' + ', '.join(Path(name).stem for name in settings.train_photos))
    print('held out: ' + ', '.join(Path(name).stem for name in settings.held_out_photos))
    written = prepare(DATA, settings)
    print(f'data: {"written to" if written else "reused from"} {DATA}', flush=True)

    coarse = training_stage(demo, 'coarse', digest(asdict(settings)))
    fine = training_stage(demo, 'fine', coarse.fingerprint())
    tests = [test_stage(demo, stage) for stage in (coarse, fine)]
    results = Path('results') / demo
    seconds = {
        stage.key: perform(stage, results / 'stages.json', results / f'{stage.key}.log')
        for stage in (coarse, fine, *tests)
    }
    seconds['test'] = sum(seconds.pop(test.key) for test in tests)
    show_results(demo, seconds)


def show_results(demo: str, seconds: dict[str, float]) -> None:
    """Write the summary and the picture, print the table and where they are."""
    name, results = 'demo_held_out', Path('results') / demo
    folders = {side: (DATA / 'test' / side, '.png') for side in ('input', 'target')}
    for stage, test in tests_of(demo).items():
        folders[stage] = (Path('results') / test / 'visualization' / name, f'_{test}.png')
    images = report.read_results(folders)
    scores = report.score(images)
    command = 'bash scripts/demo.sh' + (' --paper' if demo == PAPER else '')
    report.write_summary(results / 'summary.json', scores, seconds, command)
    report.write_comparison(results / 'comparison.png', images, scores)
    print(f'\nHeld-out photographs, PSNR (dB) and SSIM on Y\n\n{report.table(scores)}\n')
    print(report.gains(scores))
    print('time: ' + ', '.join(f'{stage} {readable(s)}' for stage, s in seconds.items()))
    print(f'picture: {(results / "comparison.png").resolve()}')
    print(f'figures: {(results / "summary.json").resolve()}')


def main() -> int:
    """Parse the command line, run, and turn failures into messages."""
    parser = argparse.ArgumentParser(prog='scripts/demo.sh', description=__doc__)
    parser.add_argument('--fresh', action='store_true', help='remove earlier results, start over')
    parser.add_argument(
        '--paper', action='store_true', help='predict the noise, as the paper does (own results)'
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.fresh:
            remove_everything()
        run(PAPER if arguments.paper else RESIDUAL)
    except (StageFailed, FileNotFoundError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ninterrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    os.chdir(ROOT)
    sys.exit(main())
