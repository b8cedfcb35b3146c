"""Experiment files: rows of settings that differ in what is to be found out, and the trainings they ask for."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sivt_lightning.data.layouts import train_samples
from sivt_lightning.errors import SIVTError

FEATURES = "features"  # folder of kept features beside those of the experiments


@dataclass(frozen=True)
class Experiment:
    """One file of `configs/experiments`.

    Args:
        name: of the file.
        title: says what is found out.
        config: what all rows start from, a path relative to the file.
        rows: settings of each row, by its name.
        settings: of all rows.
        seeds: each row is trained with each of them.
        test: false measures on held-out normal images only, as it has to be where a setting is chosen.
        individual: rows in which each category gets a model of its own.
        reach: a synthetic AUROC; the table says after how many image passes each row first reached it.
        paper: the paper's figures, by row, where it measured the same thing.
    """

    name: str
    title: str
    config: Path
    rows: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    test: bool = True
    individual: Sequence[str] = ()
    reach: float | None = None
    paper: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Run(NamedTuple):
    """One training, of all categories or of one."""

    row: str
    seed: int
    category: str | None
    arguments: list[str]  # of `sivt fit`, apart from paths
    backbone: str | None = None  # None for the default one
    has_weights: bool = False  # whether its settings say where the backbone's weights come from

    @property
    def folder(self) -> Path:
        """Where its files lie within the experiment's folder."""
        return Path(slug(self.row), f"seed_{self.seed}", *([] if self.category is None else [slug(self.category)]))


def read_experiment(file: Path) -> Experiment:
    """Raises SIVTError where the file is not there, is no YAML, or lacks or misnames a part."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        content["rows"] = {str(name): dict(row or {}) for name, row in content["rows"].items()}
        config = (file.parent / content.pop("config")).resolve()
        experiment = Experiment(file.stem, config=config, **content)
    except OSError as error:
        raise SIVTError(f"{file}: cannot be read ({error.strerror}). Name a file as in configs/experiments.") from error
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SIVTError(f"{file}: not an experiment ({reason}). Those in configs/experiments show how.") from error
    if not config.is_file():
        raise SIVTError(f"{file}: there is no config {config}. It is looked for from the experiment file's folder.")
    rows = experiment.rows
    if experiment.name == FEATURES:
        raise SIVTError(f"{file}: {FEATURES} is the name of the folder of kept features. Give the file another name.")
    lost = [name for name in [*experiment.individual, *experiment.paper] if name not in rows]
    if lost:
        raise SIVTError(f"{file}: there is no row {lost[0]!r}, only {', '.join(rows)}.")
    if len({slug(name) for name in rows}) < len(rows):
        raise SIVTError(f"{file}: the names of two rows give one folder. Let them differ in letters or digits.")
    return experiment


def runs_of(experiment: Experiment, root: Path, seeds: Sequence[int] | None = None) -> Iterator[Run]:
    """The trainings of an experiment on the categories of `root`, row by row."""
    base = yaml.safe_load(experiment.config.read_text(encoding="utf-8")) or {}
    layout = experiment.settings.get("data.layout", (base.get("data") or {}).get("layout"))
    samples = train_samples(root, None, layout).samples if experiment.individual else []
    alone = sorted({sample.category for sample in samples})
    if len({slug(category) for category in alone}) < len(alone):
        raise SIVTError(f"{root}: the names of two categories give one folder. Let them differ in letters or digits.")
    model = {f"model.{key}": value for key, value in (base.get("model") or {}).items()}
    for (row, own), seed in itertools.product(experiment.rows.items(), experiment.seeds if seeds is None else seeds):
        arguments = ["--config", str(experiment.config), f"--seed_everything={seed}"]
        settings = {**model, **experiment.settings, **own}
        network = (settings.get("model.backbone"), "model.weights" in settings)
        for key, value in {**experiment.settings, **own}.items():
            arguments.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
        if row not in experiment.individual:
            yield Run(row, seed, None, arguments, *network)
            continue
        for category in alone:
            yield Run(row, seed, category, [*arguments, f"--data.categories={json.dumps([category])}"], *network)


def slug(name: str) -> str:
    """A folder name.

    >>> slug("N = 4, P = 2")
    'n-4-p-2'
    """
    return re.sub(r"\W+", "-", name.lower()).strip("-")
