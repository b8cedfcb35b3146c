"""`sivt data`: what there is to do with photos before a training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.errors import SIVTError


def run(args: Sequence[str]) -> int:
    """`sivt data list FOLDER`; returns the exit code."""
    parser = verb_parser("data")
    parser.add_argument("what", type=Literal[tuple(TASKS)], help="list: writes a list of all photos, to edit.")
    parser.add_argument("folder", type=str, help="Folder of the products, or of one.")
    parser.add_argument("--layout", type=str | None, help="How it is laid out, as data.layout of fit has it.")
    parser.add_argument("--output", type=str | None, help="File to write. Default: the folder's name with .csv.")
    parser.add_argument("--overwrite", action="store_true", help="Replace what is there.")
    settings = parse(parser, args)
    return TASKS[settings.what](settings)


def write_list(settings: Any) -> int:
    """`sivt data list`."""
    from sivt_lightning.data.layouts import all_samples, check_layout
    from sivt_lightning.data.lists import list_text
    from sivt_lightning.data.urls import path_of
    from sivt_lightning.files import write_whole

    root = path_of(settings.folder).resolve()
    file = Path(settings.output or f"{root.name or 'photos'}.csv")
    if file.suffix.lower() != ".csv":
        raise SIVTError(f"output {file}: a list is a CSV file. Give it a name that ends in .csv.")
    if file.exists() and not settings.overwrite:
        raise SIVTError(f"{file} exists. Add --overwrite to replace it, or name another file with --output.")
    if not file.absolute().parent.is_dir():
        raise SIVTError(f"output {file}: there is no folder {file.absolute().parent}. Make it first.")
    samples, left_out = all_samples(root, check_layout(settings.layout))
    write_whole(file, list_text(samples, file.absolute().parent.resolve()))
    for sentence in left_out:
        print(sentence)
    products = len({sample.category for sample in samples})
    print(f"Wrote {file}: {len(samples)} photos of {products} products. Next:")
    print(f"  sivt fit --config small --data.root {file}")
    return 0


TASKS: dict[str, Callable[[Any], int]] = {"list": write_list}
