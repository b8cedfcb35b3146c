"""`sivt experiment`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.cli.shipped import CONFIGS, named
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import writable_folder


def run(args: Sequence[str]) -> int:
    """`sivt experiment FILE ...`: 1 where a training or test failed, after all others."""
    parser = verb_parser("experiment")
    parser.add_argument("files", type=str, nargs="+", help="Experiment files, or shipped ones by name, such as groups.")
    parser.add_argument("--root", type=str, required=True, help="Folder of the categories.")
    text = "Weights: of the default backbone a path, of others NAME=PATH or NAME=package. Others are downloaded."
    parser.add_argument("--weights", type=str, nargs="+", default=[], help=text)
    parser.add_argument("--seeds", type=int, nargs="+", help="Instead of the seeds in the files.")
    parser.add_argument("--rows", type=str, nargs="+", help="Only these rows; the table has those done before, too.")
    text = "Folder of the trainings, the tables, and the features that all trainings share."
    parser.add_argument("--output", type=str, default="runs/experiments", help=text)
    settings = parse(parser, args)
    files = [named(file, "experiment", CONFIGS / "experiments", SIVTError) for file in settings.files]
    from sivt_lightning.data.urls import path_of
    from sivt_lightning.experiment.laboratory import Laboratory, weights_of
    from sivt_lightning.experiment.plan import read_experiment

    experiments = [read_experiment(Path(file)) for file in files]
    wanted = settings.rows or [row for each in experiments for row in each.rows]
    for row in wanted:
        if not any(row in each.rows for each in experiments):
            raise SIVTError(f"rows: there is no row {row!r}, only {', '.join(r for e in experiments for r in e.rows)}.")
    root = path_of(settings.root).resolve()
    output, weights = writable_folder(Path(settings.output)).resolve(), weights_of(settings.weights)
    laboratory = Laboratory(output, root, weights, partial(print, flush=True))
    return int(not laboratory.carry_out_all(experiments, wanted, settings.seeds))
