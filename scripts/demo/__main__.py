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
RESULTS = Path('results/demo')
TESTS = {'coarse': 'demo_test_coarse', 'fine': 'demo_test'}


def training_stage(stage: str, inputs: str) -> Stage:
    """The BasicSR run that trains `stage`."""
    experiment = Path('experiments') / f'demo_{stage}'
    return Stage(
        key=stage,
        title=f'{stage} training',
        script='scripts/train.py',
        options=Path(f'options/demo_{stage}.yml'),
        experiment=experiment,
        product=experiment / 'models' / 'net_g_latest.pth',
        inputs=inputs,
    )


def test_stage(training: Stage) -> Stage:
    """The BasicSR run that restores the held-out photographs with the weights of a training."""
    name = TESTS[training.key]
    return Stage(
        key=f'test_{training.key}',
        title=f'test of {training.key}',
        script='scripts/test.py',
        options=Path('options/demo_test.yml'),
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
    for folder in (DATA, RESULTS, *runs):
        shutil.rmtree(folder, ignore_errors=True)


def run() -> None:
    """Data, training, tests and report, each reused if it is there."""
    settings = DataSettings()
    print('data: ' + ', '.join(Path(name).stem for name in settings.train_photos))
    print('held out: ' + ', '.join(Path(name).stem for name in settings.held_out_photos))
    written = prepare(DATA, settings)
    print(f'data: {"written to" if written else "reused from"} {DATA}', flush=True)

    coarse = training_stage('coarse', digest(asdict(settings)))
    fine = training_stage('fine', coarse.fingerprint())
    seconds = {stage.key: run_stage(stage) for stage in (coarse, fine)}
    seconds['test'] = sum(run_stage(test_stage(stage)) for stage in (coarse, fine))
    show_results(seconds)


def run_stage(stage: Stage) -> float:
    """Run a stage, or reuse it; the seconds that it took."""
    return perform(stage, RESULTS / 'stages.json', RESULTS / f'{stage.key}.log')


def show_results(seconds: dict[str, float]) -> None:
    """Write the summary and the picture, print the table and where they are."""
    name = 'demo_held_out'
    folders = {side: (DATA / 'test' / side, '.png') for side in ('input', 'target')}
    for stage, test in TESTS.items():
        folders[stage] = (Path('results') / test / 'visualization' / name, f'_{test}.png')
    images = report.read_results(folders)
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
    os.chdir(ROOT)
    sys.exit(main())
