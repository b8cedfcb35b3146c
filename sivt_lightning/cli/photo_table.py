"""What a training or a test starts with: a table of its photos, and what it leaves out."""

from collections.abc import Mapping, Sequence

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from sivt_lightning.data.datamodule import data_of
from sivt_lightning.data.samples import Sample
from sivt_lightning.data.survey import read_headers, sizes
from sivt_lightning.errors import listing
from sivt_lightning.report.tables import console_table


class Survey(Callback):
    """Prints of each category how many photos of which kind there are, and their sizes; and what is left out.

    Of a prediction only the latter. It is the first process that prints.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The data module has found its photos by now."""
        if not trainer.is_global_zero:
            return
        data = data_of(trainer)
        if stage == "fit":
            _print_table("Photos of good parts", {"train": data.train_photos, "held out": data.val_photos})
        elif stage == "test":
            samples = data.test_set.samples
            kinds = {
                "good": [sample for sample in samples if not sample.anomalous],
                "anomalous": [sample for sample in samples if sample.anomalous],
                "with mask": [sample for sample in samples if sample.mask_path is not None],
            }
            _print_table("Test photos", kinds)
        for sentence in data.remarks:
            print(sentence, flush=True)


def _print_table(title: str, kinds: Mapping[str, Sequence[Sample]]) -> None:
    samples = list({sample.path: sample for of in kinds.values() for sample in of}.values())
    headers = dict(zip(samples, read_headers([sample.path for sample in samples]), strict=True))
    cells = []
    for name in sorted({sample.category for sample in samples}):
        counts = [str(sum(sample.category == name for sample in of)) for of in kinds.values()]
        own = [sample for sample in samples if sample.category == name]
        layouts = ", ".join(sorted({sample.layout for sample in own}))
        cells.append([name, *counts, sizes(headers[sample] for sample in own), layouts])
    Console().print(console_table(title, ["category", *kinds, "pixels", "layout"], cells))
    if paged := [sample.path for sample, header in headers.items() if header is not None and header.has_more_pages]:
        print(f"Of files with several pages only the first is read: {listing(map(str, paged))}.", flush=True)
