"""`sivt data`: what there is to do with photos before a training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.cli.data_check import add_check_options, check_photos
from sivt_lightning.errors import SIVTError


def run(args: Sequence[str]) -> int:
    """`sivt data list FOLDER` and `sivt data check FOLDER`; returns the exit code."""
    parser = verb_parser("data")
    text = "check: looks at all photos before a training; list: writes a list of them, to edit."
    parser.add_argument("what", type=Literal[tuple(TASKS)], help=text)
    parser.add_argument(
        "folder",
        type=str,
        help="Folder of the products, or of one; for check also a list; for list also a server's --state.",
    )
    parser.add_argument("--layout", type=str | None, help="How it is laid out, as data.layout of fit has it.")
    text = "What to write. Default: of list the folder's name with .csv, of check the folder checks/NAME."
    parser.add_argument("--output", type=str | None, help=text)
    parser.add_argument("--overwrite", action="store_true", help="Replace what is there.")
    if args[:1] != ["check"]:
        text = "Of list: the --state of a server, whose photos that people have marked good are listed, too."
        parser.add_argument("--marked", type=str | None, help=text)
    if args[:1] != ["list"]:
        add_check_options(parser)
    settings = parse(parser, args)
    return TASKS[settings.what](settings)


def write_list(settings: Any) -> int:
    """`sivt data list`."""
    from sivt_lightning.data.layouts import all_samples, check_layout
    from sivt_lightning.data.lists import is_list, list_text
    from sivt_lightning.data.urls import path_of
    from sivt_lightning.files import write_whole
    from sivt_lightning.inference.marked_photos import read_marked
    from sivt_lightning.state.reading import is_state

    root = path_of(settings.folder).resolve()
    if is_list(root):
        raise SIVTError(f"{root} is a list already. Give a folder of photos.")
    file = Path(settings.output or f"{root.name or 'photos'}.csv")
    if file.suffix.lower() != ".csv":
        raise SIVTError(f"output {file}: a list is a CSV file. Give it a name that ends in .csv.")
    if file.exists() and not settings.overwrite:
        raise SIVTError(f"{file} exists. Add --overwrite to replace it, or name another file with --output.")
    if not file.absolute().parent.is_dir():
        raise SIVTError(f"output {file}: there is no folder {file.absolute().parent}. Make it first.")
    if is_state(root):
        marked = read_marked(root)
        samples, left_out = marked.samples(), marked.left_out
    else:
        samples, left_out = all_samples(root, check_layout(settings.layout))
    if settings.marked is not None:  # a training learns nothing from defects
        marked = read_marked(path_of(settings.marked).resolve())
        samples, left_out = [*samples, *marked.good], [*left_out, *marked.left_out]
    write_whole(file, list_text(samples, file.absolute().parent.resolve()))
    for sentence in left_out:
        print(sentence)
    products = len({sample.category for sample in samples})
    print(f"Wrote {file}: {len(samples)} photos of {products} products. Next:")
    print(f"  sivt fit --config small --data.root {file}")
    return 0


TASKS: dict[str, Callable[[Any], int]] = {"check": check_photos, "list": write_list}
