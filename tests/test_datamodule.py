"""Samples, orders and batches as the Trainer gets them."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from sivt_lightning.data import datamodule as module_under_test
from sivt_lightning.data import loaders
from sivt_lightning.data.datamodule import SIVTDataModule, data_of
from sivt_lightning.data.dataset import Batch, EvalSampler, ImageDataset, TrainSampler, collate
from sivt_lightning.data.layouts import train_samples
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError

SIZE = 16


def photo(path: Path, value: int = 128, size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def build(root: Path, categories: tuple[str, ...] = ("bolt", "nut"), train: int = 10) -> Path:
    for category in categories:
        for index in range(train):
            photo(root / category / f"train/good/{index:03}.png", value=index)
        photo(root / category / "test/good/000.png")
        photo(root / category / "test/hole/000.png")
        mask = root / category / "ground_truth/hole/000_mask.png"
        photo(mask, value=0)
        with Image.open(mask) as image:
            image.paste((255, 0, 0), (0, 0, 10, 10))
            image.save(mask)
    return root


def datamodule(root: Path | None, **settings: object) -> SIVTDataModule:
    settings = {"image_size": SIZE, "batch_size": 4, "num_workers": 0} | settings
    return SIVTDataModule(str(root) if root else None, **settings)


def ready(root: Path, stage: str = "fit", **settings: object) -> SIVTDataModule:
    data = datamodule(root, **settings)
    data.setup(stage)
    return data


def order(loader: DataLoader) -> list[int]:
    return [position for batch in loader for position in batch.index.tolist()]


class Recorder(LightningModule):
    """Trains one weight and writes down the positions it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[int]] = {}
        self.errors: list[str] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).extend(batch.index.tolist())
        return self.weight * batch.images.mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen.setdefault(0, []).extend(batch.index.tolist())
        self.errors += batch.errors

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**settings: object) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(accelerator="cpu", use_distributed_sampler=False, **(quiet | settings))


# --- data set and batches


def test_a_batch_is_pixels_masks_and_positions_but_no_category(tmp_path: Path) -> None:
    batch = next(iter(ready(build(tmp_path), "test", eval_batch_size=3).test_dataloader()))
    assert isinstance(batch, Batch)
    # A category here would reach the model.
    assert batch._fields == ("images", "masks", "index", "errors", "views", "notes", "grids")
    assert (batch.images.shape, batch.images.dtype) == ((3, 3, SIZE, SIZE), torch.float32)
    assert torch.allclose(batch.images, torch.tensor(128 / 255))
    assert {(tuple(mask.shape), mask.dtype) for mask in batch.masks} == {((SIZE, SIZE), torch.bool)}
    assert [int(mask.sum()) for mask in batch.masks] == [0, SIZE**2 // 4, 0]
    assert batch.masks[1][: SIZE // 2, : SIZE // 2].all()
    assert (batch.index.dtype, batch.index.tolist(), batch.errors) == (torch.int64, [0, 1, 2], ["", "", ""])


def test_an_unreadable_image_is_a_zero_image_with_its_sentence(tmp_path: Path) -> None:
    photo(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    dataset = ImageDataset([Sample(tmp_path / "bad.png", ""), Sample(tmp_path / "good.png", "")], SIZE)
    batch = collate([dataset[0], dataset[1]])
    assert batch.errors == [f"{tmp_path / 'bad.png'} cannot be read: the file is empty. Replace or remove it.", ""]
    assert batch.images[0].eq(0).all()
    assert batch.images[1].gt(0).all()


def test_an_unreadable_mask_is_reported_too(tmp_path: Path) -> None:
    photo(tmp_path / "photo.png")
    (tmp_path / "mask.png").write_bytes(b"")
    item = ImageDataset([Sample(tmp_path / "photo.png", "", True, "hole", tmp_path / "mask.png")], SIZE)[0]
    assert item.error.startswith(f"{tmp_path / 'mask.png'} cannot be read")


@pytest.mark.parametrize(("size", "fits"), [((40, 20), True), ((20, 10), True), ((101, 51), True), ((20, 40), False)])
def test_a_mask_may_be_smaller_but_not_of_another_shape(tmp_path: Path, size: tuple[int, int], fits: bool) -> None:
    photo(tmp_path / "photo.png", size=(40, 20))
    photo(tmp_path / "mask.png", size=size)
    item = ImageDataset([Sample(tmp_path / "photo.png", "", True, "hole", tmp_path / "mask.png")], SIZE)[0]
    assert (item.error == "") == fits
    if not fits:
        assert "mask.png is 20 x 40 pixels, which is not the shape of its image" in item.error


# --- setup


def test_fit_holds_out_a_share_of_each_category(tmp_path: Path) -> None:
    data = ready(build(tmp_path), val_share=0.2)
    assert len(data.train_set) == 16
    assert [sample.category for sample in data.val_set.samples] == ["bolt", "bolt", "nut", "nut"]
    everything = {sample.path for sample in train_samples(tmp_path, None).samples}
    assert {sample.path for sample in data.train_set.samples + data.val_set.samples} == everything
    validated = ready(tmp_path, "validate", val_share=0.2)
    assert validated.val_set.samples == data.val_set.samples
    assert ready(tmp_path, categories=["nut"], val_share=0.2).val_set.samples == data.val_set.samples[2:]


def test_fit_never_touches_test_images(tmp_path: Path) -> None:
    expected = ready(build(tmp_path)).train_set.samples
    for image in tmp_path.glob("*/test/*/*.png"):
        image.write_bytes(b"")
    data = datamodule(tmp_path)
    trainer(max_epochs=1).fit(Recorder(), datamodule=data)
    assert data.train_set.samples == expected
    for category in ("bolt", "nut"):
        shutil.rmtree(tmp_path / category / "test")
        shutil.rmtree(tmp_path / category / "ground_truth")
    assert ready(tmp_path).train_set.samples == expected


def test_a_leading_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(build(tmp_path)))
    assert len(ready(Path("~")).train_set) == 18
    assert len(ready(Path("~"), "predict", predict_path="~/bolt").predict_set) == 13


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_root_is_needed(stage: str) -> None:
    with pytest.raises(SIVTError, match=r"Set data.root to the folder that holds the categories"):
        ready(None, stage)


def test_predict_needs_a_path_and_no_root(tmp_path: Path) -> None:
    with pytest.raises(SIVTError, match=r"Set data.predict_path to a folder of images or to one image"):
        ready(None, "predict")
    photo(tmp_path / "a.png")
    assert len(ready(None, "predict", predict_path=str(tmp_path)).predict_set) == 1


def test_predict_takes_a_list_of_paths(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / name / "0.png")
    data = ready(None, "predict", predict_path=[str(tmp_path / "a"), str(tmp_path / "b/0.png")])
    assert [sample.category for sample in data.predict_set.samples] == ["a", "b"]
    for path in ([], [""], ["", str(tmp_path)]):
        with pytest.raises(SIVTError, match=r"Set data.predict_path to a folder of images or to one image"):
            ready(None, "predict", predict_path=path)


@pytest.mark.parametrize(
    ("given", "taken"),
    [("02", ["02"]), ("[01, 02]", ["01", "02"]), ("['010',\"02\"]", ["010", "02"]), (["01"], ["01"]), (None, None)],
)
def test_categories_may_be_a_list_as_people_write_it(
    tmp_path: Path, given: list[str] | str | None, taken: list[str] | None
) -> None:
    data = ready(build(tmp_path, ("01", "02", "010"), train=2), categories=given)
    assert data.categories == data.hparams.categories == taken
    assert sorted({sample.category for sample in data.val_set.samples}) == sorted(taken or ["01", "010", "02"])


@pytest.mark.parametrize(
    ("setting", "value"),
    [("image_size", 0), ("batch_size", 0), ("eval_batch_size", -1), ("num_workers", -1), ("seed", -1)],
)
def test_bad_settings_are_named(setting: str, value: int) -> None:
    with pytest.raises(SIVTError, match=rf"data.{setting} is {value}, but must be [01] or more"):
        datamodule(None, **{setting: value})


def test_bad_val_share_is_named(tmp_path: Path) -> None:
    with pytest.raises(SIVTError, match=r"share is 1.0, but must lie between 0 and 1\. Set data.val_share"):
        ready(build(tmp_path), val_share=1.0)


def test_hyperparameters_survive_a_safe_checkpoint(tmp_path: Path) -> None:
    data = datamodule(build(tmp_path / "data"), categories=["bolt"])
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(Recorder(), datamodule=data)
    run.save_checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)["datamodule_hyper_parameters"]
    expected = {"root": str(tmp_path / "data"), "categories": ["bolt"], "image_size": SIZE, "val_share": 0.1, "seed": 0}
    assert {key: stored[key] for key in expected} == expected


# --- order


@pytest.mark.parametrize(("length", "world_size"), [(10, 1), (10, 3), (12, 4), (3, 4), (1, 8)])
def test_training_shares_are_even_and_differ(length: int, world_size: int) -> None:
    samplers = [TrainSampler(length, seed=0, rank=rank, world_size=world_size) for rank in range(world_size)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])} == {max(length // world_size, 1)}
    everything = sorted(index for share in shares for index in share)
    if length >= world_size:
        assert len(set(everything)) == len(everything)  # disjoint
        assert length - len(everything) < world_size  # only the remainder sits out
    else:
        assert set(everything) == set(range(length))  # everyone gets something, everything is used


def test_training_order_comes_from_seed_and_epoch_alone() -> None:
    def epoch(number: int, seed: int = 0) -> list[int]:
        sampler = TrainSampler(50, seed=seed)
        sampler.set_epoch(number)
        return list(sampler)

    torch.manual_seed(1)
    first = epoch(3)
    torch.manual_seed(2)
    assert epoch(3) == first
    assert epoch(4) != first
    assert epoch(3, seed=1) != first
    assert sorted(first) == list(range(50))


@pytest.mark.parametrize(("length", "world_size"), [(10, 1), (10, 3), (12, 4), (3, 4)])
def test_evaluation_sees_each_sample_once(length: int, world_size: int) -> None:
    samplers = [EvalSampler(length, rank=rank, world_size=world_size) for rank in range(world_size)]
    shares = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(share) for share in shares]
    assert sorted(index for share in shares for index in share) == list(range(length))
    assert all(share == sorted(share) for share in shares)


def test_loaders_take_rank_and_world_size_from_the_trainer(tmp_path: Path) -> None:
    root = build(tmp_path)
    trained, validated = [], []
    for rank in range(3):
        data = ready(root, val_share=0.2)
        data.trainer = SimpleNamespace(
            world_size=3,
            global_rank=rank,
            num_devices=3,
            predicting=False,
            current_epoch=0,
        )
        trained.append(order(data.train_dataloader()))
        validated.append(order(data.val_dataloader()))
    assert [len(share) for share in trained] == [5, 5, 5]
    assert len({index for share in trained for index in share}) == 15
    assert validated == [[0, 3], [1], [2]]


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_does_not_touch_the_running_generator(tmp_path: Path, workers: int) -> None:
    data = ready(build(tmp_path), num_workers=workers)
    before = torch.get_rng_state()
    order(data.train_dataloader())
    order(data.val_dataloader())
    list(data.calibration_batches())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_set_smaller_than_one_batch_is_one_batch(tmp_path: Path) -> None:
    data = ready(build(tmp_path), batch_size=100)
    assert [len(batch.index) for batch in data.train_dataloader()] == [18]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_sees_the_order_of_an_unbroken_one(tmp_path: Path, workers: int) -> None:
    root = build(tmp_path / "data")
    settings = {"limit_val_batches": 0, "enable_checkpointing": True, "default_root_dir": tmp_path}
    whole = Recorder()
    trainer(max_epochs=3, **settings).fit(whole, datamodule=datamodule(root, num_workers=workers))
    halted, resumed = Recorder(), Recorder()
    first = trainer(max_epochs=1, **settings)
    first.fit(halted, datamodule=datamodule(root, num_workers=workers))
    checkpoint = first.checkpoint_callback.best_model_path
    trainer(max_epochs=3, **settings).fit(
        resumed, datamodule=datamodule(root, num_workers=workers), ckpt_path=checkpoint, weights_only=True
    )
    assert halted.seen | resumed.seen == whole.seen
    assert list(resumed.seen) == [1, 2]
    assert len({tuple(seen) for seen in whole.seen.values()}) == 3


# --- workers


def test_worker_processes_give_the_same_batches(tmp_path: Path) -> None:
    root = build(tmp_path)
    (root / "nut/train/good/004.png").write_bytes(b"")
    loaders = [ready(root, num_workers=workers).train_dataloader() for workers in (0, 2)]
    assert [loader.num_workers for loader in loaders] == [0, 2]
    assert [loader.persistent_workers for loader in loaders] == [False, True]
    for alone, shared in zip(*loaders, strict=True):
        assert torch.equal(alone.images, shared.images)
        assert torch.equal(alone.index, shared.index)
        assert alone.errors == shared.errors
    assert order(loaders[1]) == order(loaders[1])  # the same epoch again, by the same workers


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has CPUs
@pytest.mark.parametrize(
    ("cpus", "devices", "batch_size", "workers"),
    [(64, 1, 4, 8), (2, 1, 4, 2), (16, 4, 1, 4), (2, 4, 1, 0), (64, 1, 5, 0)],
)
def test_workers_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, devices: int, batch_size: int, workers: int
) -> None:
    monkeypatch.setattr(loaders, "cpus", lambda: cpus)
    data = ready(build(tmp_path), num_workers=None, batch_size=batch_size)
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, num_devices=devices, predicting=False)
    assert data.train_dataloader().num_workers == workers


def test_cpus_are_counted_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaders.cpus() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS and Windows
    assert loaders.cpus() >= 1


# --- unreadable images


@pytest.mark.parametrize("workers", [0, 1])
def test_fit_stops_at_unreadable_images_with_their_sentence(tmp_path: Path, workers: int) -> None:
    root = build(tmp_path)
    for image in (root / "nut/train/good").iterdir():
        image.write_bytes(b"")
    data = datamodule(root, batch_size=18, num_workers=workers)
    with pytest.raises(SIVTError, match=r"^.*png cannot be read: .*remove it\. \(8 more in the same batch\.\)$"):
        trainer(max_epochs=1, limit_val_batches=0).fit(Recorder(), datamodule=data)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_evaluation_stops_at_an_unreadable_image(tmp_path: Path, stage: str) -> None:
    data = ready(build(tmp_path), stage, eval_batch_size=1)
    loader = data.test_dataloader() if stage == "test" else data.val_dataloader()
    samples = loader.dataset.samples
    samples[-1].path.write_bytes(b"")
    *fine, bad = list(loader)
    assert all(data.on_before_batch_transfer(batch, 0) is batch for batch in fine)
    with pytest.raises(SIVTError, match=r"empty\. Replace or remove it\.$"):
        data.on_before_batch_transfer(bad, 0)


def test_predict_reports_unreadable_images_and_goes_on(tmp_path: Path) -> None:
    for index in range(5):
        photo(tmp_path / f"{index}.png")
    (tmp_path / "3.png").write_bytes(b"")
    recorder = Recorder()
    data = datamodule(None, predict_path=str(tmp_path), eval_batch_size=2)
    trainer().predict(recorder, datamodule=data, return_predictions=False)
    assert recorder.seen[0] == [0, 1, 2, 3, 4]
    assert [bool(error) for error in recorder.errors] == [False, False, False, True, False]


# --- calibration


def test_a_trainer_of_other_data_is_refused_with_a_sentence(tmp_path: Path) -> None:
    run, data = trainer(), datamodule(build(tmp_path))
    with pytest.raises(SIVTError, match=r"of type NoneType.*SIVTDataModule"):
        data_of(run)
    run.datamodule = LightningDataModule()  # type: ignore[attr-defined]
    with pytest.raises(SIVTError, match="of type LightningDataModule"):
        data_of(run)
    run.datamodule = data  # type: ignore[attr-defined]
    assert data_of(run) is data


def test_calibration_spreads_over_the_sorted_training_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "CALIBRATION_IMAGES", 5)
    data = ready(build(tmp_path, train=11), eval_batch_size=2)
    batches = list(data.calibration_batches())
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, SIZE, SIZE), (2, 3, SIZE, SIZE), (1, 3, SIZE, SIZE)]
    spread = [data.train_set[index].images for index in (0, 5, 10, 14, 19)]  # first to last of 20, evenly
    assert torch.equal(torch.cat(batches), torch.cat(spread))
    data.trainer = SimpleNamespace(world_size=4, global_rank=3, num_devices=4, predicting=False)
    assert torch.equal(torch.cat(list(data.calibration_batches())), torch.cat(batches))


def test_calibration_uses_all_of_a_small_set(tmp_path: Path) -> None:
    data = ready(build(tmp_path))
    values = [round(float(image.mean() * 255)) for batch in data.calibration_batches() for image in batch]
    assert values == [int(sample.path.stem) for sample in data.train_set.samples]


def test_calibration_stops_at_an_unreadable_image(tmp_path: Path) -> None:
    data = ready(build(tmp_path))
    data.train_set.samples[3].path.write_bytes(b"")
    with pytest.raises(SIVTError, match="cannot be read: the file is empty"):
        list(data.calibration_batches())
