"""Streaming metrics against exact ones: the bound always holds, and the error is small whatever the scores are."""

from collections.abc import Callable
from copy import deepcopy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Forked
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from sivt_lightning.evaluation.metrics import ranking, sketch
from sivt_lightning.evaluation.metrics.figures import FPR_LIMIT, Bounded
from sivt_lightning.evaluation.metrics.intervals import concatenate, condense, points
from sivt_lightning.evaluation.metrics.ranking import ImageRanking, PixelRanking
from sivt_lightning.evaluation.metrics.regions import region_weights

MAPS, SIDE = 24, 256  # 1.6 million pixels
MOST_ERROR = {"auroc": 1e-5, "ap": 1e-4, "f1max": 1e-4, "aupro": 1e-5}
Draw = Callable[[np.random.Generator, int, float], np.ndarray]


def flood_fill(mask: np.ndarray) -> list[np.ndarray]:
    """Rows and columns of each 8-connected region, found pixel by pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while left:
        todo, region = [left.pop()], []
        while todo:
            y, x = todo.pop()
            region.append((y, x))
            for neighbour in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if neighbour in left:
                    left.remove(neighbour)
                    todo.append(neighbour)
        regions.append(np.array(region))
    return regions


def exact_figures(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """AUROC and AP by scikit-learn; F1-max and AUPRO from their definitions, at every distinct score as threshold."""
    scores, labels = maps.reshape(-1).astype(np.float64), masks.reshape(-1)
    share = np.zeros(masks.shape)  # of its region that a pixel is
    regions = 0
    for part, mask in zip(share, masks, strict=True):
        for region in flood_fill(mask):
            part[region[:, 0], region[:, 1]] = 1 / len(region)
            regions += 1
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    true = np.cumsum(labels[order])[last]
    false = last + 1 - true
    fpr = np.append(0, false / (~labels).sum())
    overlap = np.append(0, np.cumsum(share.reshape(-1)[order])[last] / regions)
    inside = fpr < FPR_LIMIT
    at_limit = np.interp(FPR_LIMIT, fpr, overlap)
    area = np.trapezoid(np.append(overlap[inside], at_limit), np.append(fpr[inside], FPR_LIMIT))
    return {
        "auroc": roc_auc_score(labels, scores),
        "ap": average_precision_score(labels, scores),
        "f1max": float((2 * true / (labels.sum() + true + false)).max()),
        "aupro": area / FPR_LIMIT,
    }


def squares(generator: np.random.Generator, share: float = 1.0, largest: int = 40) -> np.ndarray:
    """Masks of none to four squares, some of which touch."""
    masks = np.zeros((MAPS, SIDE, SIDE), dtype=bool)
    for mask in masks:
        for _ in range(generator.integers(0, 5) if generator.random() < share else 0):
            y, x = generator.integers(0, SIDE - largest, 2)
            height, width = generator.integers(1, largest, 2)
            mask[y : y + height, x : x + width] = True
    masks[0, :3, :3] = True
    return masks


def gamma(generator: np.random.Generator, n: int, moved: float) -> np.ndarray:
    return generator.gamma(2 + moved, 1, n)


def normal(centre: float, width: float) -> Draw:
    return lambda generator, n, moved: centre + width * (generator.standard_normal(n) + moved)


def spikes(generator: np.random.Generator, n: int, moved: float) -> np.ndarray:
    """A thousand values, each blurred by a few of float32's steps."""
    values = np.random.default_rng(5).gamma(2, 1, 1000)
    return generator.choice(values, n) * (1 + 1e-6 * (generator.standard_normal(n) + moved))


def with_outliers(generator: np.random.Generator, n: int, moved: float) -> np.ndarray:
    scores = normal(1, 1e-3)(generator, n, moved)
    scores[:2] = 0, 1e30
    return scores


def half_zero(generator: np.random.Generator, n: int, moved: float) -> np.ndarray:
    return gamma(generator, n, moved) * (generator.random(n) < 0.5)


DISTRIBUTIONS: dict[str, Draw] = {
    "gamma": gamma,
    "ties": lambda generator, n, moved: gamma(generator, n, moved).round(1),
    "many ties": lambda generator, n, moved: gamma(generator, n, moved).round(4),
    "all equal": lambda generator, n, moved: np.full(n, 3.0),
    "tiny": lambda generator, n, moved: 1e-30 * gamma(generator, n, moved),
    "huge": lambda generator, n, moved: 5e28 * gamma(generator, n, moved),
    "all scales": lambda generator, n, moved: 10 ** generator.uniform(-30 + 10 * moved, 30, n),
    "1 + 0.001 z": normal(1, 1e-3),
    "5 + 0.2 z": normal(5, 0.2),
    "outliers": with_outliers,
    "half zero": half_zero,
    "spikes": spikes,
    "told apart": lambda generator, n, moved: generator.random(n) + 2 * moved,
}


def drawn(name: str, masks: np.ndarray, moved: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(1)
    maps = np.empty(masks.shape, np.float32)
    for label, shift in ((False, 0.0), (True, moved)):
        maps[masks == label] = DISTRIBUTIONS[name](generator, int((masks == label).sum()), shift)
    return maps


def measured(maps: np.ndarray, masks: np.ndarray, batch: int = 5) -> dict[str, Bounded]:
    metric = PixelRanking()
    for start in range(0, len(maps), batch):
        metric.update(torch.from_numpy(maps[start : start + batch]), torch.from_numpy(masks[start : start + batch]))
    return metric.figures()


@pytest.fixture
def six_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the scores that are otherwise kept before any is counted."""
    monkeypatch.setattr(sketch, "RAW", 2**18)


def check(
    figures: dict[str, Bounded], maps: np.ndarray, masks: np.ndarray, most: dict[str, float] = MOST_ERROR
) -> None:
    for name, exact in exact_figures(maps, masks).items():
        error = abs(figures[name].value - exact)
        assert error <= figures[name].error, f"{name}: {figures[name]} is {error} from {exact}"
        assert error <= most[name], f"{name}: {figures[name]} is {error} from {exact}"


@pytest.mark.usefixtures("six_rounds")
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_error_and_bound_on_every_distribution(name: str) -> None:
    masks = squares(np.random.default_rng(0))
    maps = drawn(name, masks)
    figures = measured(maps, masks)
    check(figures, maps, masks)
    assert max(figures[figure].error for figure in ("auroc", "aupro")) < 1e-4  # a bound that says something
    assert max(figures[figure].error for figure in ("ap", "f1max")) < 1e-3


@pytest.mark.usefixtures("six_rounds")
@pytest.mark.parametrize("moved", [3.0, 8.0])
def test_rare_positives(moved: float) -> None:
    masks = squares(np.random.default_rng(0), share=0.1, largest=6)
    assert masks.sum() < 200
    maps = drawn("gamma", masks, moved)
    check(measured(maps, masks), maps, masks)


@pytest.mark.usefixtures("six_rounds")
def test_scores_that_grow_or_change_their_kind_while_they_arrive() -> None:
    masks = squares(np.random.default_rng(0))
    growing = drawn("gamma", masks) * np.geomspace(1e-6, 1e6, MAPS, dtype=np.float32)[:, None, None]
    check(measured(growing, masks), growing, masks)
    changing = drawn("gamma", masks)
    changing[8:16] = drawn("1 + 0.001 z", masks)[8:16]
    changing[16:] = drawn("ties", masks)[16:]
    check(measured(changing, masks), changing, masks)


def test_up_to_a_million_pixels_are_exact() -> None:
    masks = squares(np.random.default_rng(0))[:15]
    maps = drawn("gamma", masks)
    check(measured(maps, masks, batch=4), maps, masks, dict.fromkeys(MOST_ERROR, 1e-11))


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_holds_in_a_sketch_far_too_small(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the bins come to lie, whatever is set aside, united and merged in which order."""
    generator = np.random.default_rng(seed)
    for name, value in (("RAW", 600), ("TOP", 50), ("SIZE", 2 ** int(generator.integers(3, 9))), ("CROWDED", 0.01)):
        monkeypatch.setattr(sketch, name, value)
    masks = squares(generator)[:, ::8, ::8]
    name = list(DISTRIBUTIONS)[seed % len(DISTRIBUTIONS)]
    maps = drawn(name, masks, moved=float(generator.uniform(-0.5, 2)))
    if seed % 2:
        maps = np.sort(maps, axis=0)
    metrics = [PixelRanking() for _ in range(3)]
    for i in generator.permutation(MAPS):
        metrics[int(generator.integers(3))].update(
            torch.from_numpy(maps[i : i + 1]), torch.from_numpy(masks[i : i + 1])
        )
    metrics[0].merge_state(metrics[1])
    found = [metrics[0].figures()]
    metrics[2].merge_state(metrics[0])
    whole = metrics[2].figures()
    for figure, exact in exact_figures(maps, masks).items():
        assert abs(whole[figure].value - exact) <= whole[figure].error
    assert found[0].keys() == whole.keys()


def test_condensing_keeps_counts_and_points() -> None:
    generator = np.random.default_rng(0)
    account = concatenate(
        points(generator.gamma(2, 1, 5000).round(3), positive=False),
        points(np.full(5000, 1.5), np.full(5000, 0.5), positive=True),
    )
    shorter = condense(account, 100)
    assert len(shorter.low) < 250
    assert (shorter.negatives.sum(), shorter.positives.sum(), shorter.weight.sum()) == (5000, 5000, 2500)
    assert ((shorter.low <= 1.5) & (shorter.high >= 1.5) & (shorter.positives == 5000)).sum() == 1
    heavy = shorter.take(shorter.positives > 0)
    assert heavy.low == heavy.high == 1.5


@pytest.mark.usefixtures("six_rounds")
def test_batches_order_and_processes_change_nothing_that_the_bound_does_not_cover() -> None:
    masks = squares(np.random.default_rng(0))
    maps = drawn("gamma", masks)
    one = measured(maps, masks)
    order = np.random.default_rng(2).permutation(MAPS)
    other = measured(maps[order], masks[order], batch=1)
    for name, figure in one.items():
        assert abs(figure.value - other[name].value) <= min(figure.error + other[name].error, MOST_ERROR[name])


@pytest.mark.usefixtures("six_rounds")
@pytest.mark.parametrize("scale", [2.0**-60, 2.0**20])
def test_positive_rescaling_changes_nothing(scale: float) -> None:
    masks = squares(np.random.default_rng(0))
    maps = drawn("gamma", masks)
    for name, figure in measured(maps, masks).items():
        assert measured(maps * np.float32(scale), masks)[name].value == pytest.approx(figure.value, abs=1e-6)


# ------------------------------------------------------------ torchmetrics


def test_image_figures_are_exact_at_any_number() -> None:
    generator = np.random.default_rng(0)
    labels = generator.random(700_000) < 0.3
    scores = (generator.gamma(2, 1, len(labels)) + labels).astype(np.float32).round(4)
    metric = ImageRanking()
    for part in np.array_split(np.arange(len(labels)), 7):
        metric.update(torch.from_numpy(scores[part]), torch.from_numpy(labels[part]))
    figures = metric.compute()
    assert figures["auroc"].item() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert figures["ap"].item() == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert max(figures[f"{name}_error"] for name in ("auroc", "ap", "f1max")) < 1e-9


@pytest.mark.parametrize("label", [True, False])
def test_one_class_alone_is_undefined(label: bool) -> None:
    metric = PixelRanking()
    metric.update(torch.rand(2, 8, 8), torch.full((2, 8, 8), label))
    assert all(value.isnan() for value in metric.compute().values())
    assert all(value.isnan() for value in PixelRanking().compute().values())


def test_forward_reset_and_copies_behave_as_torchmetrics_has_it() -> None:
    masks = torch.from_numpy(squares(np.random.default_rng(0))[:4])
    maps = torch.from_numpy(drawn("gamma", masks.numpy()))
    metric = PixelRanking()
    alone = metric(maps[2:], masks[2:])
    metric(maps[:2], masks[:2])
    copy = deepcopy(metric)
    both = metric.compute()
    assert copy.compute() == both
    assert both["auroc"] != alone["auroc"]
    fresh = PixelRanking()
    fresh.update(maps, masks)
    for name, figure in metric.figures().items():
        assert fresh.figures()[name].value == pytest.approx(figure.value, abs=1e-12)
    metric.reset()
    metric.update(maps[2:], masks[2:])
    assert metric.compute() == alone


PROCESS = """
import sys, torch
import torch.distributed as dist
from sivt_lightning.evaluation.metrics.ranking import ImageRanking, PixelRanking

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)
images, alone, pixels = ImageRanking(), ImageRanking(), PixelRanking()
images.update(given["scores"][rank::2], given["labels"][rank::2])
if rank:  # nothing on the other
    alone.update(given["scores"], given["labels"])
part = slice(0, 20) if rank else slice(20, None)
pixels.update(given["maps"][part], given["masks"][part])
found = {"images": images.compute(), "alone": alone.compute(), "pixels": pixels.compute()}
torch.save(found, f"{folder}/found.{rank}")
images.reset()
assert not images.low
dist.destroy_process_group()
"""


def test_two_processes_give_the_figures_of_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = torch.from_numpy(generator.random(999) < 0.3)
    scores = torch.from_numpy(generator.gamma(2, 1, 999).round(2)).float() + labels
    masks = squares(generator)
    maps = drawn("gamma", masks)
    given = {"scores": scores, "labels": labels, "maps": torch.from_numpy(maps), "masks": torch.from_numpy(masks)}
    torch.save(given, tmp_path / "given.pt")
    for process in [Forked(str(rank), str(tmp_path), code=PROCESS) for rank in (0, 1)]:
        ended = process.wait()
        assert ended.returncode == 0, ended
    first, second = (torch.load(tmp_path / f"found.{rank}", weights_only=True) for rank in (0, 1))
    one = ImageRanking()
    one.update(scores, labels)
    for name, figure in one.figures().items():
        for figures in (first["images"], second["images"], first["alone"], second["alone"]):
            assert figures[name].item() == pytest.approx(figure.value, abs=1e-12)
    for name, exact in exact_figures(maps, masks).items():
        assert first["pixels"][name] == second["pixels"][name]
        assert abs(first["pixels"][name] - exact) <= min(first["pixels"][f"{name}_error"], MOST_ERROR[name])


def test_forward_keeps_no_more_than_update(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sketch, ranking):
        monkeypatch.setattr(module, "RAW", 1000)
    metric = PixelRanking()
    for _ in range(30):
        maps = torch.rand(1, 30, 30)
        metric(maps, maps > 0.9)
    assert sum(map(len, metric.low)) <= 3000
    assert metric.compute()["auroc"] == pytest.approx(1, abs=1e-2)


def test_weights_of_many_pixels_are_within_the_bound_of_rounding() -> None:
    generator = np.random.default_rng(0)
    masks = generator.random((30, SIDE, SIDE)) < 0.3
    maps = (generator.random(masks.shape) < 0.2 + 0.3 * masks).astype(np.float32)
    metric = PixelRanking()
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks))
    regions = [share for m, k in zip(maps, masks, strict=True) for share in _shares_above(m, k)]
    false = Fraction(int(maps[~masks].sum()), int((~masks).sum()))  # at the one threshold, the curve's only corner
    overlap = sum(regions) / len(regions)
    limit = Fraction(3, 10)
    assert false < limit
    at_limit = overlap + (1 - overlap) * (limit - false) / (1 - false)
    exact = (false * overlap / 2 + (limit - false) * (overlap + at_limit) / 2) / limit
    aupro = metric.figures()["aupro"]
    assert abs(Fraction(aupro.value) - exact) <= Fraction(aupro.error)


def _shares_above(binary: np.ndarray, mask: np.ndarray) -> list[Fraction]:
    """Of each region's pixels."""
    labels = ndimage.label(mask, np.ones((3, 3)))[0].reshape(-1)
    above, all_of_it = np.bincount(labels, binary.reshape(-1)), np.bincount(labels)
    return [Fraction(int(a), int(n)) for a, n in zip(above[1:], all_of_it[1:], strict=True)]


def test_what_is_given_may_be_changed_afterwards() -> None:
    maps, masks = torch.rand(1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :2] = True
    metric, expected = PixelRanking(), PixelRanking()
    expected.update(maps.clone(), masks)
    metric.update(maps, masks)
    maps.zero_()
    assert metric.compute() == expected.compute()


@pytest.mark.parametrize("bad", [-1e-3, float("nan"), float("inf")])
def test_a_score_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and 0 or more"):
        PixelRanking().update(torch.full((1, 2, 2), bad), torch.zeros(1, 2, 2, dtype=torch.bool))


def test_region_weights_are_those_of_a_flood_fill() -> None:
    mask = squares(np.random.default_rng(3), largest=60)[5] | (np.random.default_rng(4).random((SIDE, SIDE)) < 0.2)
    expected = np.zeros(mask.shape)
    for region in flood_fill(mask):
        expected[region[:, 0], region[:, 1]] = 1 / len(region)
    np.testing.assert_allclose(region_weights(mask), expected[mask])
