"""`sivt data check`: a look at photos before a training."""

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from sivt_lightning.errors import SIVTError

FAULTY = 3  # exit code: done, but some photos or masks cannot be used as they are
MOST_SAID = 5  # findings of a kind on the screen
WIDE = ("grey level", "layout")  # columns that only the page has
PAGE, FINDINGS, UNLIKE = "check.html", "findings.csv", "unlike.csv"


def add_check_options(parser: Any) -> None:
    """Those of `sivt data check` alone."""
    text = "Network by whose features photos are compared. Default: EfficientNet-Lite 0, with --weights FILE b4."
    parser.add_argument("--backbone", type=str | None, help=text)
    text = "Its weights, as model.weights of fit has them. Default: package, where there is one."
    parser.add_argument("--weights", type=str | None, help=text)
    text = "Share of good parts that may be called anomalous, for which there have to be photos enough."
    parser.add_argument("--false_alarms", type=float, default=0.05, help=text)


def check_photos(settings: Any) -> int:
    """`sivt data check`."""
    from sivt_lightning.check.checking import check
    from sivt_lightning.check.network import network_of
    from sivt_lightning.check.pages import findings_table, page_of, unlike_table
    from sivt_lightning.data.layouts import all_samples, check_layout
    from sivt_lightning.data.urls import path_of
    from sivt_lightning.files import writable_folder, write_whole
    from sivt_lightning.inference.calibration import check_share

    root = path_of(settings.folder).resolve()
    folder = Path("checks", root.stem) if settings.output is None else Path(settings.output)
    if (folder / PAGE).exists() and not settings.overwrite:
        raise SIVTError(f"{folder} has results. Add --overwrite to replace them, or name another folder with --output.")
    layout, share = check_layout(settings.layout), check_share(settings.false_alarms)
    network = network_of(settings.backbone, settings.weights)
    selection = all_samples(root, layout)
    writable_folder(folder)  # before minutes of work
    checked = check(selection, share, network, partial(print, flush=True))
    write_whole(folder / FINDINGS, findings_table(checked.findings))
    write_whole(folder / UNLIKE, unlike_table(checked.unlike))
    write_whole(folder / PAGE, page_of(root, checked))
    _say(checked, root)
    print(f"\n{checked.said}: {folder / PAGE}")
    return FAULTY if checked.faults else 0


def _say(checked: Any, root: Path) -> None:
    from sivt_lightning.check.pages import TITLES, short
    from sivt_lightning.report.tables import console_table

    shown = [name not in WIDE for name in checked.table[0]]
    heading, *rows = [[cell for cell, show in zip(row, shown, strict=True) if show] for row in checked.table]
    Console().print(console_table(f"Photos of {root}", heading, rows))
    for sentence in checked.remarks:
        print(sentence)
    for kind, (title, _) in TITLES.items():
        found = [finding for finding in checked.findings if finding.kind == kind]
        if found:
            print(f"\n{title}: {len(found)}")
        for finding in found[:MOST_SAID]:
            print(f"- {short(finding.sentence, root)}")
        if len(found) > MOST_SAID:
            print(f"- and {len(found) - MOST_SAID} more")
