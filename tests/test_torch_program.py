"""A .pt2 file: what torch would compute of it, and that nothing in it is run, however it was made."""

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run

from sivt_lightning.inference.torch_operations import ATEN, PREFIX, operation
from sivt_lightning.inference.torch_program import ARCHIVE, MEMBER, OPERATORS, SCHEMA, TorchProgram

# Without the checks of shapes, which are no numbers while torch traces.
EXPORT = """
import torch
from pathlib import Path
from sivt_lightning.export.graph import save_torch
from sivt_lightning.model.detector import build_detector
from sivt_lightning.model.settings import ModelSettings
torch.manual_seed(0)
small = dict(image_size=32, feature_stride=8, patch_size=1, width=16, heads=4, encoder_depth=1, decoder_depth=1)
save_torch(build_detector(ModelSettings("resnet18", [2], weights="random", **small)), "fp32", Path("m.pt2"))
"""
MODEL, WEIGHTS, CONSTANTS = (
    "models/model.json",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
SAMPLE = "data/sample_inputs/model.pt"
CPU = torch.device("cpu")
Parts = dict[str, bytes]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(code=EXPORT)
    return folder / "m.pt2"


@pytest.fixture
def parts(exported: Path) -> Parts:
    """What the file is made of, by names within the archive."""
    with zipfile.ZipFile(exported) as archive:
        return {member.filename.partition("/")[2]: archive.read(member) for member in archive.infolist()}


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that planted code makes."""
    return tmp_path / "planted code ran"


def written(parts: Parts, folder: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "planted.pt2"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(f"m/{name}", content)
    return path


def change(parts: Parts, name: str, by: Callable[[Any], None]) -> None:
    content = json.loads(parts[name])
    by(content)
    parts[name] = json.dumps(content).encode()


def insert(parts: Parts, target: str, **inputs: Any) -> None:
    """An operation whose result the next one takes, or torch would leave it out."""

    def into(model: Any) -> None:
        graph = model["graph_module"]["graph"]
        place = next(place for place, node in enumerate(graph["nodes"]) if node["target"].endswith("sub.Tensor"))
        given = [{"name": name, "arg": {f"as_{type(one).__name__}": one}, "kind": 1} for name, one in inputs.items()]
        made = {"target": target, "inputs": given, "outputs": [{"as_tensor": {"name": "planted"}}], "metadata": {}}
        graph["nodes"][place]["inputs"][1]["arg"] = {"as_tensor": {"name": "planted"}}
        graph["nodes"].insert(place, made)

    change(parts, MODEL, into)


class Planted:
    """Makes a file as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def pickled(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Planted(mark), buffer)
    return buffer.getvalue()


def first(config: Any) -> Any:
    return next(iter(config["config"].values()))


def pickled_weight(parts: Parts, mark: Path) -> None:
    change(parts, WEIGHTS, lambda config: first(config).update(use_pickle=True))
    parts["data/weights/weight_0"] = pickled(mark)


def pickled_constant(parts: Parts, mark: Path) -> None:
    entry = {"path_name": "tensor_9", "is_param": False, "use_pickle": True, "tensor_meta": None}
    change(parts, CONSTANTS, lambda config: config["config"].update(planted=entry))
    parts["data/constants/tensor_9"] = pickled(mark)


def pickled_object(parts: Parts, mark: Path) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    change(parts, CONSTANTS, lambda config: config["config"].update(planted=entry))
    parts["data/constants/opaque_obj_0"] = pickle.dumps(Planted(mark))


def weights_of_an_earlier_format(parts: Parts, mark: Path) -> None:
    parts["data/weights/model.pt"] = pickled(mark)


def pickled_example(parts: Parts, mark: Path) -> None:
    parts[SAMPLE] = pickled(mark)


def code(mark: Path) -> str:
    return f"__import__('pathlib').Path({str(mark)!r}).touch()"


def shape(parts: Parts, mark: Path) -> None:
    def into(model: Any) -> None:
        next(iter(model["graph_module"]["graph"]["sym_int_values"].values()))["as_expr"]["expr_str"] = code(mark)

    change(parts, MODEL, into)


def guard(parts: Parts, mark: Path) -> None:
    change(parts, MODEL, lambda model: model.update(guards_code=[code(mark)]))


def file_that_an_operation_makes(parts: Parts, mark: Path) -> None:
    insert(parts, f"{PREFIX}from_file.default", filename=str(mark), shared=True, size=1)


def command(parts: Parts, mark: Path) -> None:
    insert(parts, "torch.os.system", command=f"touch '{mark}'")


def code_of_a_hub(parts: Parts, mark: Path) -> None:
    insert(parts, "torch.hub.load", repo_or_dir=str(mark.parent), model="planted", source="local")


# In torch 2.14, torch.export.load(...).module() ran all of these but the last two, which it refuses.
PLANTED = {
    pickled_weight: "is not plain numbers",
    pickled_constant: "is not plain numbers",
    pickled_object: "its part m/data/constants/opaque_obj_0 is none",
    weights_of_an_earlier_format: r"its part m/data/weights/model\.pt is none",
    pickled_example: None,
    shape: None,
    guard: None,
    file_that_an_operation_makes: r"it names torch\.ops\.aten\.from_file\.default",
    command: r"it names torch\.os\.system",
    code_of_a_hub: r"it names torch\.hub\.load",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_code_is_not_run(
    plant: Callable[[Parts, Path], None], exported: Path, parts: Parts, mark: Path, tmp_path: Path
) -> None:
    """The file is refused, or opened without a look at the part that it lies in, and the scores are the same."""
    plant(parts, mark)
    path = written(parts, tmp_path)
    before = sorted(tmp_path.iterdir())
    if PLANTED[plant] is not None:
        with pytest.raises(ValueError, match=PLANTED[plant]):
            TorchProgram(path, CPU)
    else:
        images = torch.rand(2, 3, 32, 32)
        for own, right in zip(TorchProgram(path, CPU)(images), TorchProgram(exported, CPU)(images), strict=True):
            assert torch.equal(own, right)
    assert sorted(tmp_path.iterdir()) == before


def test_it_computes_what_torch_computes(exported: Path) -> None:
    """To the last bit, for any number of images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.export.load(exported).module()
    ours = TorchProgram(exported, CPU)
    for count in (1, 2, 5):
        images = torch.rand(count, 3, 32, 32)
        for own, right in zip(ours(images), theirs(images), strict=True):
            assert torch.equal(own, right)


def test_it_computes_where_it_is_told(exported: Path) -> None:
    """torch.export writes the device of its tracing into the graph; here stands one that refuses to meet another."""
    parts = TorchProgram(exported, torch.device("meta"))(torch.zeros(3, 3, 32, 32, device="meta"))
    assert [part.device.type for part in parts] == ["meta"] * 3
    assert [part.ndim for part in parts] == [1, 3, 2]
    assert {len(part) for part in parts} == {3}


def test_values_are_dropped_after_their_last_use(exported: Path) -> None:
    program = TorchProgram(exported, CPU)
    dropped = [name for names in program.last for name in names]
    computed = {name for step in program.steps for name in step.results}
    assert len(set(dropped)) == len(dropped)
    assert computed - set(dropped) == set(program.results)


def test_torch_writes_the_archive_that_is_read(parts: Parts) -> None:
    wanted = f"torch {torch.__version__} writes .pt2 files otherwise than inference/torch_program.py reads them"
    model = json.loads(parts[MODEL])
    assert (parts["archive_format"], parts["archive_version"]) == (b"pt2", ARCHIVE), wanted
    assert (model["schema_version"]["major"], model["opset_version"]) == (SCHEMA, OPERATORS), wanted
    assert [name for name in parts if not MEMBER.fullmatch(name)] == [], wanted


def test_operations_write_nothing() -> None:
    """All that torch's own schema of an operation can say of it."""
    for name in sorted(ATEN):
        schema = operation(PREFIX + name)._schema
        assert not schema.is_mutable, name
        assert not [one for one in schema.arguments if one.name in ("filename", "out")], name


@pytest.mark.parametrize("target", ["", "add.Tensor", f"{PREFIX}add", f"{PREFIX}add.Tensor.__class__", "_operator.pow"])
def test_operations_that_are_not_on_the_list_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match="which is none of a model's operations"):
        operation(target)


def beyond_the_end(parts: Parts) -> None:
    change(parts, WEIGHTS, lambda config: first(config)["tensor_meta"].update(storage_offset={"as_int": 1}))


def other_file(parts: Parts) -> None:
    change(parts, WEIGHTS, lambda config: first(config).update(path_name="../../../etc/passwd"))


def missing_file(parts: Parts) -> None:
    del parts["data/weights/weight_0"]


def no_model(parts: Parts) -> None:
    del parts[MODEL]


def not_json(parts: Parts) -> None:
    parts[MODEL] = b"{"


def deep_json(parts: Parts) -> None:
    parts[MODEL] = b"[" * 100_000


def other_json(parts: Parts) -> None:
    parts[MODEL] = b"[1]"


def later_archive(parts: Parts) -> None:
    parts["archive_version"] = b"1"


def later_schema(parts: Parts) -> None:
    change(parts, MODEL, lambda model: model["schema_version"].update(major=SCHEMA + 1))


def other_processor(parts: Parts) -> None:
    parts["byteorder"] = b"big"


def path_out_of_the_archive(parts: Parts) -> None:
    parts["../../planted"] = b""


def unknown_input(parts: Parts) -> None:
    spec = {"custom_obj": {"arg": {"name": "planted", "class_fqn": "os"}, "custom_obj_name": "planted"}}
    change(parts, MODEL, lambda model: model["graph_module"]["signature"]["input_specs"].append(spec))


def changed_weights(parts: Parts) -> None:
    """As results of a graph that writes to them."""

    def into(model: Any) -> None:
        spec = model["graph_module"]["signature"]["output_specs"][0]
        spec["buffer_mutation"] = spec.pop("user_output")

    change(parts, MODEL, into)


def value_from_nowhere(parts: Parts) -> None:
    change(parts, MODEL, lambda model: model["graph_module"]["graph"]["nodes"].pop(1))


def graph_in_an_argument(parts: Parts) -> None:
    insert(parts, f"{PREFIX}relu.default", self="x")
    parts[MODEL] = parts[MODEL].replace(b'"as_str": "x"', b'"as_graph": {"name": "planted", "graph": {}}')


REFUSED = {
    beyond_the_end: "out of bounds",
    other_file: "is not plain numbers",
    missing_file: "it lacks data/weights/weight_0",
    no_model: r"it lacks models/model\.json",
    not_json: "not what torch writes",
    deep_json: "not what torch writes",
    other_json: "not what torch writes",
    later_archive: "archive_version is none that this version reads",
    later_schema: "which writes another format",
    other_processor: "another kind of processor",
    path_out_of_the_archive: r"its part m/\.\./\.\./planted is none",
    unknown_input: "its input custom_obj is none",
    changed_weights: "others than scores and maps",
    value_from_nowhere: "is used before it is computed",
    graph_in_an_argument: "it has an argument",
}


@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_what_is_not_of_a_model_is_refused(damage: Callable[[Parts], None], parts: Parts, tmp_path: Path) -> None:
    damage(parts)
    path = written(parts, tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RuntimeError if damage is beyond_the_end else ValueError, match=REFUSED[damage]):
        TorchProgram(path, CPU)
    assert sorted(tmp_path.iterdir()) == before


def test_archives_that_torch_does_not_write_are_refused(exported: Path, parts: Parts, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    path = tmp_path / "cut.pt2"
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(zipfile.BadZipFile):
            TorchProgram(path, CPU)
    parts["data/weights/weight_999"] = bytes(1 << 24)  # 16 MB in 16 kB
    with pytest.raises(ValueError, match="is none that torch writes"):
        TorchProgram(written(parts, tmp_path, zipfile.ZIP_DEFLATED), CPU)
    del parts["data/weights/weight_999"]
    path = written(parts, tmp_path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(f"m/{MODEL}", parts[MODEL])
    with pytest.raises(ValueError, match="a part of it is there twice"):
        TorchProgram(path, CPU)


def test_too_few_weights_of_a_batch_norm_are_not_read_beyond_their_end(parts: Parts, tmp_path: Path) -> None:
    def shorten(config: Any) -> None:
        entry = next(entry for name, entry in config["config"].items() if name.endswith("bn1.weight"))
        entry["tensor_meta"]["sizes"] = [{"as_int": 2}]

    change(parts, WEIGHTS, shorten)
    program = TorchProgram(written(parts, tmp_path), CPU)
    with pytest.raises(RuntimeError, match="weight should contain 64 elements not 2"):
        program(torch.zeros(1, 3, 32, 32))
