"""What share of good parts is expected above a number, by simulation and by hand."""

import numpy as np
import pytest

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.estimation import Sample, references_of
from sivt_lightning.inference.reference import ROUNDING, Reference

NONE = np.zeros(0)
# Images of the training and held-out ones, as a large collection has them of its smallest and largest products.
SIZES = {"tiny": (29, 3), "small": (81, 9), "usual": (216, 24), "large": (900, 100)}
SHARES = (0.01, 0.02, 0.05, 0.1)


def draw(kind: str, count: int, generator: np.random.Generator) -> np.ndarray:
    """Numbers of mean 0 and deviation 1."""
    if kind == "normal":
        return generator.normal(size=count)
    if kind == "skewed":
        return (generator.gamma(3, 1, count) - 3) / 3**0.5
    return generator.standard_t(5, count) / (5 / 3) ** 0.5  # heavy tails


def observed(kind: str, spread: float, draws: int = 60) -> dict[str, np.ndarray]:
    """Mean false alarms at each promised share, by size; held-out numbers lie `spread` times as widely as trained."""
    generator = np.random.default_rng(1)
    rates: dict[str, list[list[float]]] = {name: [] for name in SIZES}
    for _ in range(draws):
        samples, drawn = {}, {}
        for name, (trained, held_out) in SIZES.items():
            middle, width, shift = (
                generator.normal(0, 2),
                np.exp(generator.normal(-1.2, 0.4)),
                generator.uniform(0, 0.2),
            )
            new = lambda n, m=middle + shift, w=width * spread: np.exp(m + w * draw(kind, n, generator))  # noqa: E731
            samples[name] = Sample(new(held_out), np.exp(middle + width * draw(kind, trained, generator)))
            drawn[name] = new
        references = references_of(samples)
        for name, new in drawn.items():
            numbers = new(4000)
            rates[name].append([float((numbers > references[name].threshold(share)).mean()) for share in SHARES])
    return {name: np.mean(rate, axis=0) for name, rate in rates.items()}


@pytest.mark.parametrize("spread", [1.0, 1.3])
@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
def test_false_alarms_are_as_promised_whatever_the_distribution(kind: str, spread: float) -> None:
    for name, rates in observed(kind, spread).items():
        assert (rates < 1.6 * np.array(SHARES)).all(), (name, rates)
        assert (rates > 0.5 * np.array(SHARES)).all(), (name, rates)
        if name == "large":
            assert rates[2:] == pytest.approx(SHARES[2:], rel=0.2), "held-out numbers alone promise these"


def test_held_out_numbers_alone_are_conformal() -> None:
    """The k-th lowest of n is exceeded by the share (n + 1 - k) / (n + 1): exact for any distribution."""
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 102.0))
    reference = references_of({"bolt": Sample(scores, NONE)})["bolt"]
    above = 1 + ROUNDING
    assert reference.threshold(1 / 102) == pytest.approx(101 * above)
    assert reference.threshold(2 / 102) == pytest.approx(100 * above)
    # numpy's quantile "higher" takes the second highest of 101 for 1 %, which twice as many new ones exceed
    assert reference.threshold(0.01) > 100.9
    assert reference.suffices(0.01)
    assert not reference.suffices(0.009)


def test_images_of_the_training_are_raised_by_what_held_out_ones_are_higher() -> None:
    generator = np.random.default_rng(0)
    trained = {name: np.exp(generator.normal(0, 0.2, 300)) for name in "abcd"}
    held = {name: np.exp(generator.normal(0.5, 0.2, 100)) for name in "abc"} | {"d": np.exp(np.array([0.4, 0.5]))}
    references = references_of({name: Sample(held[name], trained[name]) for name in "abcd"})
    assert references["d"].shift == pytest.approx(0.5, abs=0.06), "of two images alone one would hardly know"
    assert 0 < references["d"].doubt < 0.1
    true = 10 ** -references["d"].rarity(np.exp([0.5 + 0.2 * 1.645]))
    assert true == pytest.approx(0.05, rel=0.6)


def test_no_threshold_below_a_held_out_number_that_it_promises_to_pass() -> None:
    odd = references_of({"bolt": Sample(np.array([1.0, 1.1, 9.0]), np.linspace(0.9, 1.1, 50))})["bolt"]
    assert odd.threshold(0.05) > 9
    assert 1.1 < odd.threshold(0.3) < 9


@pytest.mark.parametrize(("trained", "held_out"), [(0, 1), (0, 2), (0, 3), (0, 10), (1, 1)])
def test_few_numbers_alone_keep_the_promise_on_average(trained: int, held_out: int) -> None:
    """As `sivt calibrate` has them of another lamp: how widely all lie, they have to tell themselves."""
    generator, rates = np.random.default_rng(6), []
    for _ in range(300):
        draw = lambda n: np.exp(generator.normal(0, 0.3, n))  # noqa: E731
        reference = references_of({"bolt": Sample(draw(held_out), draw(trained))})["bolt"]
        rates.append((draw(2000) > reference.threshold(0.05)).mean())
    assert np.mean(rates) < 0.1  # with the usual tail it was 0.19 of three numbers, 0.32 of one


def test_one_odd_number_among_the_held_out_of_a_product_hardly_moves_the_others() -> None:
    def threshold(odd: float) -> float:
        generator = np.random.default_rng(7)
        samples = {
            name: Sample(np.exp(generator.normal(0.1, 0.2, 3)), np.exp(generator.normal(0, 0.2, 30)))
            for name in "abcdefghij"
        }
        samples["a"].held_out[0] *= odd
        return references_of(samples)["b"].threshold(0.05)

    assert threshold(1) < threshold(20) < 1.25 * threshold(1)


def test_a_product_of_two_photos_borrows_from_the_others() -> None:
    generator = np.random.default_rng(9)
    samples = {name: Sample(np.exp(generator.normal(0, 0.2, 9)), np.exp(generator.normal(0, 0.2, 80))) for name in "ab"}
    few = references_of(samples | {"c": Sample(np.array([1.0]), np.array([1.3]))})["c"]
    assert 1.2 < few.threshold(0.05) < 3, "two numbers alone could have meant anything"


def test_zeros_among_other_numbers_have_finite_thresholds() -> None:
    generator = np.random.default_rng(8)
    for _ in range(300):
        some = lambda least: np.round(generator.gamma(1, 1, generator.integers(least, 30)), 1)  # noqa: E731
        names = "abc"[: generator.integers(1, 4)]
        for reference in references_of({name: Sample(some(0), some(1)) for name in names}).values():
            limits = [reference.threshold(share) for share in (0.9, 0.5, 0.05, 0.01, 0.0001)]
            assert np.isfinite(limits).all()
            assert limits == sorted(limits)


def test_a_new_number_like_one_held_out_is_no_alarm_and_the_order_is_kept() -> None:
    scores = np.float32([1.5, 2.5, 110.46836])
    reference = references_of({"bolt": Sample(scores, NONE)})["bolt"]
    assert not np.float32(110.46836) * (1 + 2e-7) > reference.threshold(0.25)
    numbers = np.geomspace(1e-3, 1e5, 500)
    rarity = reference.rarity(numbers)
    assert (np.diff(rarity) > 0).all()
    assert reference.rarity(np.zeros(1)) == 0
    for share in (0.9, 0.5, 0.25, 0.01, 1e-6):
        there = np.array([reference.threshold(share) / (1 + ROUNDING)])
        assert reference.rarity(there) == pytest.approx(-np.log10(share), abs=1e-9)


def test_the_range_covers_what_is_true_nine_times_of_ten() -> None:
    generator, inside = np.random.default_rng(2), []
    for _ in range(200):
        reference = references_of({"bolt": Sample(np.exp(generator.normal(0, 0.3, 60)), NONE)})["bolt"]
        true = float((np.exp(generator.normal(0, 0.3, 20000)) > reference.threshold(0.05)).mean())
        least, most = reference.range(0.05)
        inside.append(least <= true <= most)
    assert 0.84 < np.mean(inside) < 0.96


@pytest.mark.parametrize(
    "samples", [Sample(np.full(5, 2.0), NONE), Sample(np.zeros(3), np.zeros(4)), Sample(np.ones(1), NONE)]
)
def test_scores_that_are_all_the_same_still_have_a_threshold(samples: Sample) -> None:
    reference = references_of({"bolt": samples})["bolt"]
    assert not samples.held_out[0] > reference.threshold(0.05)
    assert reference.rarity(np.array([1e6]))[0] > 2


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(SIVTError, match="not a finite number"):
        references_of({"bolt": Sample(np.array([1.0, np.nan]), NONE)})


@pytest.mark.parametrize(
    "damage",
    [
        {"values": []},
        {"values": [2.0, 1.0]},
        {"shares": [0.5, 0.5]},
        {"values": [1.0, float("nan")]},
        {"decay": 0.0},
        {"shares": [1.5, 0.1]},
        {"strange": 1},
    ],
)
def test_a_damaged_one_is_refused(damage: dict[str, object]) -> None:
    whole = {"values": [1.0, 2.0], "shares": [0.5, 0.1], "decay": 0.5, "held_out": 9}
    assert Reference.from_plain(whole).threshold(0.1) == pytest.approx(2, rel=1e-4)
    with pytest.raises(SIVTError, match="calibration is damaged"):
        Reference.from_plain(whole | damage)


def test_many_numbers_are_kept_thinned_and_the_rare_ones_whole() -> None:
    scores = np.exp(np.random.default_rng(3).normal(size=20000))
    reference = references_of({"bolt": Sample(scores, NONE)})["bolt"]
    assert len(reference.values) <= 512
    assert reference.values[-100:] == pytest.approx(np.sort(scores)[-100:])
    assert (scores > reference.threshold(0.05)).mean() == pytest.approx(0.05, abs=0.001)
