"""What a model said of golden photos, as it lies beside them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sivt_lightning.errors import SIVTError
from sivt_lightning.files import whole, write_whole

RECORD, MAPS = "golden.json", "golden.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Said:
    """Of one photo.

    Args:
        photo: its path as seen from the folder, with forward slashes.
        sha256: of its file.
        product: None where it is of none that the model knows.
    """

    photo: str
    sha256: str
    verdict: str
    product: str | None
    score: float
    threshold: float


@dataclass(frozen=True)
class Run:
    """Where and how it was said.

    Args:
        model: name of its file.
        identity: digits that no other model's file has.
        seconds: median of a photo by itself, from file to verdict.
        memory: bytes that the process held at most, None where the system does not tell.
        versions: of what a score may depend on, by its name.
    """

    model: str
    identity: str
    seconds: float
    memory: int | None
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """Of all photos; `maps` are their anomaly maps, in the same order."""

    run: Run
    said: Sequence[Said]
    maps: Sequence[Float[np.ndarray, "_ _"]]

    def write(self, folder: Path) -> None:
        """The maps first: a record that is there is whole."""
        tensors = {str(number): np.ascontiguousarray(one) for number, one in enumerate(self.maps)}
        content = save(tensors)
        with whole(folder / MAPS) as part:
            part.write_bytes(content)
        plain = {"format": FORMAT, "maps": hashlib.sha256(content).hexdigest(), **asdict(self.run)}
        plain["photos"] = [asdict(one) for one in self.said]
        write_whole(folder / RECORD, json.dumps(plain, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """Raises SIVTError where there is none, or it is damaged."""
        file = folder / RECORD
        try:
            plain = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SIVTError(
                f"{folder} holds no {RECORD}: have the tested model write it, with `sivt check --model MODEL --golden "
                f"{folder} --record`."
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(file) from error
        try:
            if plain["format"] > FORMAT:
                raise SIVTError(f"{file} is of a later version of sivt-lightning: update this one.")
            content = (folder / MAPS).read_bytes()
            if hashlib.sha256(content).hexdigest() != plain["maps"]:
                raise ValueError(f"{MAPS} is another")
            tensors = load(content)
            said = [_said(one) for one in plain["photos"]]
            run = Run(*(plain[name] for name in ("model", "identity", "seconds", "memory", "versions")))
            return cls(run, said, [tensors[str(number)] for number in range(len(said))])
        except SIVTError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise _damaged(file) from error


def _said(plain: Any) -> Said:
    said = Said(**plain)
    if not all(isinstance(value, int | float) for value in (said.score, said.threshold)):
        raise ValueError("a score that is no number")
    return said


def _damaged(file: Path) -> SIVTError:
    return SIVTError(
        f"{file}, or {MAPS} beside it, is damaged: copy both from where they were recorded, or record again."
    )
