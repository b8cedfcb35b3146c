"""A .pt2 file of `sivt export`, read as data: tensors, and a list of operations computed one after the other.

`torch.export.load` is for files that one trusts. It unpickles, evaluates expressions and guards, and takes names for
whatever torch holds under them, so a file can make it run any code. Here nothing of a file is resolved or evaluated:
its tensors are numbers, its operations are those of a list, and the rest (the pickled example, shapes, guards, call
trees) is not read. What is not as torch writes a model of this package is refused.

The archive is a private matter of torch's. Seen in torch 2.11 (schema 8.17) and 2.14 (8.20).
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZIP_STORED, ZipFile

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.inference.torch_operations import CHECKS, operation

ARCHIVE, SCHEMA, OPERATORS = b"0", 8, {"aten": 10}
MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.[a-z_]+(/[a-z_]+)?|models/model\.json|data/sample_inputs/model\.pt|"
    r"data/weights/(model_weights_config\.json|weight_\d+)|data/constants/(model_constants_config\.json|tensor_\d+)"
)
FILES = {"weights": re.compile(r"weight_\d+"), "constants": re.compile(r"tensor_\d+")}
MOST_TEXT = 1 << 26  # bytes of JSON; the largest model has 4 MB
# As torch numbers them in a file, which is not how it numbers them elsewhere.
DTYPES = {4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64}
DTYPES |= {12: torch.bool, 13: torch.bfloat16}
MEMORY = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
# What reading JSON of another shape raises, or what is none.
STRUCTURE = LookupError, TypeError, AttributeError, StopIteration, json.JSONDecodeError, UnicodeError, RecursionError

Read = Callable[[str], bytes]


class Value(str):
    """The name of something that the program is given or computes."""


class Step(NamedTuple):
    """One operation: its arguments by name, and what its results are called."""

    run: Callable[..., Any]
    arguments: Mapping[str, Any]
    results: list[str]
    several: bool


class TorchProgram:
    """Images to scores and maps by the operations in a .pt2 file.

    Raises ValueError where it is not one of `sivt export`, or whatever zipfile raises at a damaged one.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        try:
            with ZipFile(path) as archive:
                self._read(_reader(archive, path.stat().st_size), device)
        except STRUCTURE as error:
            raise ValueError("it is not what torch writes of a model") from error

    def _read(self, read: Read, device: torch.device) -> None:
        for name, right in (("archive_format", b"pt2"), ("archive_version", ARCHIVE)):
            if read(name) != right:
                raise ValueError(f"its {name} is none that this version reads")
        if read("byteorder") != sys.byteorder.encode():
            raise ValueError("its numbers are of another kind of processor")
        tensors = _tensors(read, "weights") | _tensors(read, "constants")
        graph, inputs = _graph(read)
        self.device = device
        self.given = {name: tensors[source].to(device) for name, source in inputs.items() if source is not None}
        self.images = next(name for name, source in inputs.items() if source is None)
        self.results = [name for one in graph["outputs"] for name in _names(_argument(one, device))]
        self.steps = _steps(graph["nodes"], set(inputs), device)
        self.last = _last_uses(self.steps, self.results)

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> tuple[Tensor, ...]:
        """Scores (B,), maps (B, S, S) and, of later exports, descriptors (B, C), on the device."""
        values: dict[str, Any] = self.given | {self.images: images.to(self.device)}
        for step, over in zip(self.steps, self.last, strict=True):
            made = step.run(**{name: _filled(argument, values) for name, argument in step.arguments.items()})
            values.update(zip(step.results, made if step.several else (made,), strict=True))
            for name in over:  # else all that was ever computed stays in memory
                del values[name]
        return tuple(values[name] for name in self.results)


def _reader(archive: ZipFile, size: int) -> Read:
    """Of the members by name. They are stored as they are, so nothing is larger than the file."""
    members = archive.infolist()
    root = members[0].filename.partition("/")[0] if members else ""
    names = [member.filename.removeprefix(f"{root}/") for member in members]
    for name, member in zip(names, members, strict=True):
        whole = member.filename == f"{root}/{name}" and member.compress_type == ZIP_STORED
        if not whole or not MEMBER.fullmatch(name):
            raise ValueError(f"its part {member.filename} is none that torch writes of a model")
    if len(set(names)) < len(names) or sum(member.file_size for member in members) > size:
        raise ValueError("a part of it is there twice")

    def read(name: str) -> bytes:
        if name not in names:
            raise ValueError(f"it lacks {name}")
        return archive.read(f"{root}/{name}")

    return read


def _json(read: Read, name: str) -> Any:
    text = read(name)
    if len(text) > MOST_TEXT:
        raise ValueError(f"its {name} is too large")
    return json.loads(text)


def _tensors(read: Read, folder: str) -> dict[str, Tensor]:
    """By name, as plain numbers of the file; several may share a part of it."""
    parts: dict[tuple[str, int], Tensor] = {}
    tensors = {}
    for name, entry in _json(read, f"data/{folder}/model_{folder}_config.json")["config"].items():
        match entry:
            case {
                "path_name": str(file),
                "use_pickle": False,
                "tensor_meta": {
                    "dtype": int(dtype),
                    "sizes": [*sizes],
                    "strides": [*strides],
                    "storage_offset": {"as_int": int(offset)},
                    "device": {"type": "cpu"},
                    "layout": 7,  # strided
                },
            } if dtype in DTYPES and FILES[folder].fullmatch(file):
                if (file, dtype) not in parts:
                    content = bytearray(read(f"data/{folder}/{file}"))
                    parts[file, dtype] = torch.frombuffer(content, dtype=DTYPES[dtype])
                shape = _plain(sizes), _plain(strides)
                tensors[name] = torch.as_strided(parts[file, dtype], *shape, offset)  # refuses to reach beyond its end
            case _:
                raise ValueError(f"its tensor {name} is not plain numbers")
    return tensors


def _plain(numbers: Iterable[Any]) -> list[int]:
    return [number["as_int"] for number in numbers]


def _graph(read: Read) -> tuple[Any, dict[str, str | None]]:
    """The operations, and the program's inputs: of each the tensor that it is, or None for the images."""
    program = _json(read, "models/model.json")
    if program["schema_version"]["major"] != SCHEMA or program["opset_version"] != OPERATORS:
        raise ValueError(f"it is of torch {program['torch_version']}, which writes another format")
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    inputs: dict[str, str | None] = {}
    for spec in signature["input_specs"]:
        match spec:
            case (
                {"parameter": {"arg": {"name": str(name)}, "parameter_name": str(source)}}
                | {"buffer": {"arg": {"name": str(name)}, "buffer_name": str(source)}}
                | {"tensor_constant": {"arg": {"name": str(name)}, "tensor_constant_name": str(source)}}
            ):
                inputs[name] = source
            case {"user_input": {"arg": {"as_tensor": {"name": str(name)}}}} if None not in inputs.values():
                inputs[name] = None
            case _:
                raise ValueError(f"its input {next(iter(spec))} is none that `sivt export` writes")
    if signature["output_specs"] != [{"user_output": {"arg": one}} for one in graph["outputs"]]:
        raise ValueError("its results are others than scores and maps")
    return graph, inputs


def _steps(nodes: Iterable[Any], known: set[str], device: torch.device) -> list[Step]:
    """In order. Raises ValueError for an operation or an argument of another kind, or a name that is not known yet."""
    steps = []
    for node in nodes:
        if node["target"] in CHECKS:
            continue
        run = operation(node["target"])
        arguments = {one["name"]: _argument(one["arg"], device) for one in node["inputs"]}
        if unknown := [name for one in arguments.values() for name in _names(one) if name not in known]:
            raise ValueError(f"its {unknown[0]} is used before it is computed")
        results = [_argument(one, device) for one in node["outputs"]]
        names = _names(results)
        known.update(names)
        steps.append(Step(run, arguments, names, len(results) != 1 or isinstance(results[0], list)))
    return steps


def _last_uses(steps: list[Step], results: list[str]) -> list[list[str]]:
    """Of each step the values that no later one reads. The program's inputs are kept elsewhere in any case."""
    later, last = set(results), []
    for step in reversed(steps):
        here = {name for one in step.arguments.values() for name in _names(one)} | set(step.results)
        last.append(sorted(here - later))
        later |= here
    return last[::-1]


def _argument(given: Any, device: torch.device) -> Any:
    """A number, a word, the name of a value, or a list of these. Raises ValueError for anything else."""
    match given:
        case {"as_none": True}:
            return None
        case {"as_tensor": {"name": str(name)}} | {"as_sym_int": {"as_name": str(name)}} | {"as_name": str(name)}:
            return Value(name)
        case {"as_int": int(number)} | {"as_float": float(number) | int(number)} | {"as_bool": bool(number)}:
            return number
        case {"as_float": "Infinity" | "-Infinity" as word}:
            return float(word)
        case {"as_string": str(word)}:
            return word
        case {"as_ints": [*numbers]} | {"as_floats": [*numbers]} if all(type(n) in (int, float) for n in numbers):
            return numbers
        case {"as_tensors": [*parts]}:
            return [_argument({"as_tensor": part}, device) for part in parts]
        case {"as_sym_ints": [*parts]} | {"as_optional_tensors": [*parts]}:
            return [_argument(part, device) for part in parts]
        case {"as_scalar_type": int(kind)} if kind in DTYPES:
            return DTYPES[kind]
        case {"as_memory_format": int(kind)} if kind in MEMORY:
            return MEMORY[kind]
        case {"as_device": {"type": "cpu"}}:
            return device  # the graph is traced on the CPU, and computed where one likes
    raise ValueError(f"it has an argument {str(given)[:60]}, which `sivt export` does not write")


def _names(argument: Any) -> list[str]:
    """Of values in an argument."""
    if isinstance(argument, list):
        return [name for part in argument for name in _names(part)]
    return [argument] if isinstance(argument, Value) else []


def _filled(argument: Any, values: Mapping[str, Any]) -> Any:
    """With the values in place of their names."""
    if isinstance(argument, list):
        return [_filled(part, values) for part in argument]
    return values[argument] if isinstance(argument, Value) else argument
