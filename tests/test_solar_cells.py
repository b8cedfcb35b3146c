"""docs/solar_cells.py: a list of real photos that a package holds."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from scripts import script
from trees import photos

from sivt_lightning.data.layouts import test_samples as listed_test
from sivt_lightning.data.layouts import train_samples

LABELS = [(0.0, "mono"), (1.0, "poly"), (1 / 3, "mono"), (0.0, "poly"), *[(0.0, "mono")] * 4, *[(0.0, "poly")] * 4]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as the package has it: a line for each photo, of columns parted by spaces."""
    lines = []
    for number, (probability, kind) in enumerate(LABELS):
        name = f"images/cell{number:04}.png"
        photos(tmp_path / "data", name)
        lines.append(f"{name}  {probability:<19}  {kind}\n")
    (tmp_path / "data/labels.csv").write_text("".join(lines))
    return tmp_path / "data"


def test_the_list_trains_on_good_cells_and_leaves_doubtful_ones_out(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["solar_cells.py", str(tmp_path / "cells.csv"), "--folder", str(package)])
    script("docs/solar_cells.py").main()
    train, test = train_samples(tmp_path / "cells.csv", None).samples, listed_test(tmp_path / "cells.csv", None).samples
    assert Counter(sample.category for sample in train) == {"mono": 4, "poly": 4}
    assert [(sample.path.name, sample.category, sample.anomalous) for sample in test] == [
        ("cell0007.png", "mono", False),
        ("cell0011.png", "poly", False),
        ("cell0001.png", "poly", True),
    ]


def test_without_the_package_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("docs/solar_cells.py")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["solar_cells.py", str(tmp_path / "cells.csv")])
    with pytest.raises(SystemExit):
        module.main()
    assert "pip install --no-deps elpv-dataset" in capsys.readouterr().err
    assert not (tmp_path / "cells.csv").exists()
