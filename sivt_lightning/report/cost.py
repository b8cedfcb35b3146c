"""The figures of `sivt benchmark` as tables for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

PAPER_MULTIPLY_ADDS = "10.17 G"  # Table II, which calls them FLOPs


def print_report(report: Mapping[str, Any]) -> None:
    """Prints what there is of a report."""
    console = Console()
    for name, make in (("machine", _model), ("inference", _inference), ("training", _training), ("growth", _growth)):
        if name in report:
            console.print(make(report))


def _model(report: Mapping[str, Any]) -> Table:
    machine = report["machine"]
    table = _table(f"{machine['device']}, {machine['precision']}, torch {machine['torch']}", ["", ""])
    if "parameters" not in report:  # of an exported model
        table.add_row("exported to", report["model"]["kind"])
        return table
    parameters, operations = report["parameters"], report["multiply_adds"]
    table.add_row("trainable parameters", f"{parameters['trainable']:,}")
    table.add_row("frozen parameters", f"{parameters['frozen']:,}")
    table.add_row("multiply-adds an image: backbone", giga(operations["backbone"]))
    table.add_row("reconstructor, linear layers", giga(operations["linear"]))
    table.add_row("reconstructor, attention products", giga(operations["attention"]))
    table.add_row("reconstructor, together", giga(operations["reconstructor"]))
    table.add_row("of these computed", giga(operations["reconstructor_fast"]))
    table.add_row("memory bank", giga(operations["memory_bank"]))
    table.add_row("the paper's model, by its authors", PAPER_MULTIPLY_ADDS)
    table.add_row("a large matrix product, per second", giga(machine["multiply_adds_per_s"]))
    return table


def _inference(report: Mapping[str, Any]) -> Table:
    heading = ["batch", "ms", "images/s", "of the matrix rate", "peak memory"]
    table = _table("From decoded images to maps", heading)
    for row in report["inference"]:
        table.add_row(
            str(row["batch_size"]),
            f"{row['ms']:.1f}",
            f"{row['images_per_s']:.2f}",
            "-" if row["share_of_matrix_rate"] is None else percent(row["share_of_matrix_rate"]),
            memory(row["peak_bytes"]),
        )
    return table


def _training(report: Mapping[str, Any]) -> Table:
    parts = list(report["training"][0]["ms"])
    heading = ["cache", "precision", *parts, "step", "images/s", "times plain", "of the rate", "memory", "400 epochs"]
    table = _table(f"A training step of {report['batch_size']} images, ms", heading)
    for row in report["training"]:
        table.add_row(
            row["cache"],
            row["precision"],
            *(f"{row['ms'][part]:.1f}" for part in parts),
            f"{row['step_ms']:.0f}",
            f"{row['images_per_s']:.2f}",
            f"{row['times_plain']:.2f}",
            percent(row["share_of_matrix_rate"]),
            memory(row["peak_bytes"]),
            f"{row['hours_of_the_paper']:.1f} h",
        )
    table.caption = (
        "plain: float32, features computed at every step, freed memory given back. of the rate: forward and "
        "backward, against the large matrix product. 400 epochs: of the 3,629 training images of MVTec AD.\n"
        f"Images read: {report['images']}."
    )
    return table


def _growth(report: Mapping[str, Any]) -> Table:
    table = _table("Growth of a training step on kept features", ["", "", "multiply-adds", "ms", "ms per G", "memory"])
    previous = None
    for row in report["growth"]:
        if previous not in (None, row["setting"]):
            table.add_section()
        previous = row["setting"]
        if "error" in row:
            cells = ["", row["error"], "", ""]
        else:
            each = row["step_ms"] / (row["multiply_adds"] / 1e9)
            cells = [giga(row["multiply_adds"]), f"{row['step_ms']:.0f}", f"{each:.2f}", memory(row["peak_bytes"])]
        table.add_row(row["setting"], str(row["value"]), *cells)
    return table


def _table(title: str, heading: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", show_header=any(heading))
    for number, name in enumerate(heading):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def giga(count: int | float) -> str:
    """
    >>> giga(10_170_000_000)
    '10.17 G'
    """
    return f"{count / 1e9:.2f} G"


def percent(share: float | None) -> str:
    """
    >>> percent(0.125), percent(None)
    ('12 %', '-')
    """
    return "-" if share is None else f"{100 * share:.0f} %"


def memory(count: int | None) -> str:
    """
    >>> memory(1_500_000_000), memory(None)
    ('1.50 GB', '-')
    """
    return "-" if count is None else f"{count / 1e9:.2f} GB"
