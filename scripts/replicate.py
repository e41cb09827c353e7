"""Tables 4 to 7 of the paper, and what the network predicts, at a scale that fits.

    python scripts/replicate.py --minutes 90
    python scripts/replicate.py --minutes 60 --photos ~/photographs
    python scripts/replicate.py --minutes 120 --rows targets

Small networks, photographs, several seeds. Rows: `tables` are the paper's; `targets` compares
predicting the noise, the velocity and the clean image at equal numbers of network evaluations;
`losses`, PSNR and L1 in the fine stage; `beyond` takes that stage apart. The first run measures the
machine and plans how long each training is, so that the core of the first rows (three seeds of one
task) fits the minutes. Any time left goes to the other rows and tasks. Running the same command
again continues where it stopped, with the same plan. Writes results/replication/report.md and, with
the same figures, report.json.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import torch

from c2fdft_model.evaluation.perceptual import lpips_problem
from common.degradations import DEGRADATIONS
from replication import runner
from replication.experiments import ROWS
from replication.report import write_report
from replication.runner import Job, Plan


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    gpu = torch.cuda.is_available()
    add('--minutes', type=float, default=90, help='stop after so long (default: 90)')
    add('--photos', type=Path, help='folder of photographs (default: those of scikit-image)')
    add('--tasks', nargs='+', choices=DEGRADATIONS, default=list(DEGRADATIONS))
    add('--rows', nargs='+', choices=ROWS, default=list(ROWS), help='(default: all)')
    add('--seeds', type=int, default=3, help='trainings of each kind (default: 3)')
    add('--iterations', type=int, help='of a coarse training (default: what the minutes allow)')
    add('--device', default='cuda' if gpu else 'cpu')
    add('--jobs', type=int, default=3 if gpu else min(os.cpu_count() or 1, 9), help='at a time')
    add('--output', type=Path, default=Path('results/replication'))
    add('--fresh', action='store_true', help='remove what an earlier run left')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    deadline = time.time() + args.minutes * 60
    # Beside other trainings each gets its share of the cores, or one where there are fewer.
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    try:
        plan = _plan(args, threads)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    jobs = runner.jobs_in_order(plan, args.output, args.device, deadline, threads, args.rows)
    jobs = _with_lpips_if_there(jobs)

    def tell(line: str) -> None:
        print(line, flush=True)
        # after every training: what is there survives an interruption
        write_report(args.output, plan, args.rows, with_plots=False)

    done = runner.perform(jobs, args.jobs, tell)
    print('report: {}, {}'.format(*write_report(args.output, plan, args.rows)))
    if not done:
        left, total = runner.trainings_left(jobs)
        print(
            f'{total - left} of {total} trainings are done and tested; the same command goes on, '
            'also with those that have begun'
        )
    return 0


def _with_lpips_if_there(jobs: list[Job]) -> list[Job]:
    """The jobs, those that are left without LPIPS if it cannot be measured; says so once."""
    left, _ = runner.trainings_left(jobs)
    problem = lpips_problem() if left else ''
    if problem:
        print(f'LPIPS is left out of {left} trainings: {problem}', flush=True)
    return [replace(job, lpips=not problem) for job in jobs]


def _plan(args: argparse.Namespace, threads: int) -> Plan:
    """The plan of an earlier run of this folder, or a new one. Raises ValueError if they differ."""
    if args.fresh and (args.output / runner.PLAN_FILE).exists():
        shutil.rmtree(args.output)
    kept = Plan.read(args.output)
    iterations = args.iterations or (
        kept.coarse_iterations if kept else _affordable_iterations(args, threads)
    )
    photographs = str(args.photos.resolve()) if args.photos else None
    plan = Plan(iterations, args.seeds, tuple(args.tasks), photographs)
    if kept and kept != plan:
        raise ValueError(
            f'{args.output} was begun with {astuple(kept)} (iterations, seeds, tasks, photographs),'
            f' not {astuple(plan)}: give the same, another --output, or --fresh.'
        )
    plan.write(args.output)
    start = 'going on: ' if kept else ''
    print(f'{start}{iterations} iterations of coarse training, {plan.seeds} seeds')
    return plan


def _affordable_iterations(args: argparse.Namespace, threads: int) -> int:
    torch.set_num_threads(threads)
    seconds = runner.seconds_per_iteration(args.tasks[0], args.photos, torch.device(args.device))
    print(f'{seconds:.3f} s per coarse iteration in one of {args.jobs} processes')
    return runner.affordable_iterations(args.minutes, args.jobs, seconds, args.seeds, args.rows[0])


if __name__ == '__main__':
    raise SystemExit(main())
