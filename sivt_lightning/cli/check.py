"""`sivt check`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.cli.verdict_options import add_model
from sivt_lightning.errors import SIVTError, listing
from sivt_lightning.files import writable_folder, write_whole

if TYPE_CHECKING:  # what loads torch waits until the arguments are understood
    from sivt_lightning.golden.comparing import Compared
    from sivt_lightning.golden.recorded import Record

SHOWN = 5  # photos in the table, those that are farthest off


def parse_settings(args: Sequence[str]) -> Any:
    """From flags. Raises SIVTError for a tolerance that is none."""
    parser = verb_parser("check")
    add_model(parser)
    text = "Folder of photos, in which golden.json and golden.safetensors say what the tested model made of them."
    parser.add_argument("--golden", type=str, required=True, help=text)
    parser.add_argument("--record", action="store_true", help="Write these files: the model is the tested one.")
    parser.add_argument("--overwrite", action="store_true", help="Replace what was recorded before.")
    text = "Share by which a score or a map may be off."
    parser.add_argument("--tolerance", type=float, default=0.02, help=text)
    parser.add_argument("--json", type=str | None, help="File to write every difference to, for other programs.")
    parser.add_argument("--device", type=str | None, help="Where the model runs, as Predictor has it.")
    settings = parse(parser, args)
    if not 0 < settings.tolerance < 1:
        raise SIVTError(f"tolerance is {settings.tolerance:g}: give a share between 0 and 1, such as 0.02.")
    return settings


def run(args: Sequence[str]) -> int:
    """`sivt check --model FILE --golden FOLDER`: 0 where the model says what was recorded, else 1."""
    settings = parse_settings(args)
    folder = Path(settings.golden)
    if not folder.is_dir():
        raise SIVTError(f"golden {folder} is no folder: put a few photos into one, good ones and defects.")
    return _record(settings, folder) if settings.record else _check(settings, folder)


def _record(settings: Any, folder: Path) -> int:
    from sivt_lightning.data.asked import predict_samples
    from sivt_lightning.golden.recorded import MAPS, RECORD
    from sivt_lightning.golden.running import run as run_model

    if (folder / RECORD).exists() and not settings.overwrite:
        raise SIVTError(f"{folder / RECORD} is there already: keep it, or replace it with --overwrite.")
    asked = predict_samples([folder])
    photos = [sample.path.relative_to(folder).as_posix() for sample in asked.samples]
    made = run_model(settings.model, settings.device, folder, photos)
    made.write(folder)
    verdicts = [one.verdict for one in made.said]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    print(*asked.left_out, sep="\n", end="\n" if asked.left_out else "")
    print(f"Recorded what {settings.model} says of {len(verdicts)} photos: {counts}.")
    if len(set(verdicts)) == 1:
        print(f"All are {verdicts[0]}: photos of other verdicts show more of what may go wrong.")
    print(f"Written: {folder / RECORD} {folder / MAPS}")
    print(f"Where the model is deployed: sivt check --model MODEL --golden {folder}")
    return 0


def _check(settings: Any, folder: Path) -> int:
    from rich.console import Console

    from sivt_lightning.golden.comparing import HEADING, compare, other_versions, rows
    from sivt_lightning.golden.recorded import Record
    from sivt_lightning.golden.running import run as run_model
    from sivt_lightning.report.tables import console_table

    if settings.json is not None:  # before minutes of work
        writable_folder(Path(settings.json).parent, "--json")
    then = Record.read(folder)
    photos = [one.photo for one in then.said]
    if missing := [photo for photo in photos if not (folder / photo).is_file()]:
        raise SIVTError(f"{folder} lacks {listing(missing)}, recorded in it: put the photos back, or record again.")
    now = run_model(settings.model, settings.device, folder, photos)
    compared = compare(then, now)
    differing = [*other_versions(then.run, now.run)]
    if settings.json is not None:
        write_whole(Path(settings.json), json.dumps(_plain(then, now, compared, settings.tolerance), indent=1) + "\n")
    Console().print(console_table("Golden photos, farthest off first", HEADING, rows(compared[:SHOWN])))
    if len(compared) > SHOWN:
        print(f"... and {len(compared) - SHOWN} that are less off.")
    same = "the recorded model" if now.run.identity == then.run.identity else f"another file than {then.run.model}"
    print(f"{settings.model} is {same}. A photo takes {_cost(now)}; recorded: {_cost(then)}.")
    if differing:
        print(f"Other than recorded: {'; '.join(differing)}.")
    wrong = [(one, faults) for one in compared if (faults := one.faults(settings.tolerance))]
    if not wrong:
        print(f"All {len(compared)} photos are judged as recorded, within {settings.tolerance:.3g} of score and map.")
        return 0
    first, faults = wrong[0]
    raise SIVTError(
        f"{len(wrong)} of {len(compared)} golden photos are not judged as recorded; {first.then.photo}: "
        f"{', '.join(faults)}. Deploy the model that was tested, with what it was tested with, or test this one and "
        "record it."
    )


def _cost(record: "Record") -> str:
    memory = record.run.memory
    return f"{1000 * record.run.seconds:.0f} ms" + (f" and {memory / 1e6:.0f} MB at most" if memory else "")


def _plain(then: "Record", now: "Record", compared: Sequence["Compared"], tolerance: float) -> dict[str, Any]:
    photos = [asdict(one) | {"faults": one.faults(tolerance)} for one in compared]
    return {"tolerance": tolerance, "recorded": asdict(then.run), "now": asdict(now.run), "photos": photos}
