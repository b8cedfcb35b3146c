"""Products are told apart, and what is none of them is noticed, by descriptors."""

import numpy as np
import pytest
import torch

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.calibration import Calibration, Good, calibrate, needed
from sivt_lightning.inference.judge import Asked, ProductJudge, judge_of
from sivt_lightning.inference.recognition import Recogniser, recogniser_of
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.scoring import image_descriptor

CHANNELS = 40
PLACES = {"bolt": 0.0, "gear": 3.0, "seal": -3.0}


def photos(name: str, count: int = 40, seed: int = 0, spread: float = 0.5) -> np.ndarray:
    """Descriptors of a product: its place along all channels, and a spread of its own."""
    generator = np.random.default_rng([seed, *map(ord, name)])
    where = PLACES[name] * np.sign(np.random.default_rng(9).normal(size=CHANNELS))
    return where + spread * generator.normal(size=(count, CHANNELS))


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return recogniser_of({name: photos(name) for name in PLACES})


def test_new_photos_are_recognised_and_others_are_unknown(recogniser: Recogniser) -> None:
    for name in PLACES:
        recognised = recogniser(photos(name, 200, seed=1))
        assert {one.product for one in recognised} == {name}
        assert sum(one.strangeness > 1 for one in recognised) <= 2
    other = np.random.default_rng(4).normal(0, 3, (100, CHANNELS))
    assert all(one.strangeness > 1 for one in recogniser(other))
    between = (photos("bolt", 50, 2) + photos("gear", 50, 2)) / 2
    assert all(one.strangeness > 1 for one in recogniser(between))


def test_each_product_left_out_is_unknown_to_the_others() -> None:
    for left in PLACES:
        others = recogniser_of({name: photos(name) for name in PLACES if name != left})
        assert all(one.strangeness > 1 for one in others(photos(left, 100, seed=3)))


def test_of_one_product_all_else_is_unknown() -> None:
    alone = recogniser_of({"bolt": photos("bolt")})
    assert sum(one.strangeness > 1 for one in alone(photos("bolt", 200, seed=1))) <= 1
    assert all(one.strangeness > 1 for one in alone(photos("gear", 50)))


def test_a_product_that_always_looks_the_same_keeps_its_defects() -> None:
    """They are far from it in its own spread, but near in what parts products."""
    still = {"bolt": photos("bolt", spread=0.02), "gear": photos("gear"), "seal": photos("seal")}
    recogniser, alone = recogniser_of(still), recogniser_of({"bolt": still["bolt"]})
    defective = still["bolt"] + 0.5 * np.random.default_rng(5).normal(size=CHANNELS)
    assert all(one == ("bolt", one.strangeness) and one.strangeness <= 1 for one in recogniser(defective))
    assert all(one.strangeness > 1 for one in alone(defective)), "alone there is nothing else to tell by"


def test_a_product_that_is_told_is_held_against_itself(recogniser: Recogniser) -> None:
    right, wrong = (recogniser(photos("gear", 5, 1), [name] * 5) for name in ("gear", "bolt"))
    assert {one.product for one in wrong} == {"bolt"}
    assert all(one.strangeness > 1 for one in wrong)
    assert all(one.strangeness <= 1 for one in right)


def test_a_defect_smaller_than_a_quarter_of_a_photo_hardly_moves_its_descriptor() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 8, 32, 32, generator=generator)
    descriptor = image_descriptor(features)
    values = features[:, :, ::2, ::2].flatten(2)
    for part, share in enumerate((0.75, 0.5, 0.25)):
        quartile = torch.quantile(values, share, dim=2)
        torch.testing.assert_close(descriptor[:, 8 * part : 8 * (part + 1)], quartile, atol=0.05, rtol=0)
    features[:, :, :12, :12] += 50  # a seventh of the photo
    assert (image_descriptor(features) - descriptor).abs().max() < 0.7
    features += 1
    assert (image_descriptor(features) - descriptor).abs().mean() > 0.9
    assert image_descriptor(torch.full((2, 3, 5, 5), 7.0)).tolist() == [[7.0] * 9] * 2


def good(name: str, count: int, seed: int, scale: float) -> Good:
    generator = np.random.default_rng([seed, 7])
    scores = scale * np.exp(0.2 * generator.normal(size=count))
    return Good(scores, 5 * scores, photos(name, count, seed))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """Scores of three products lie on scales of 1, 10 and 100."""
    scales = dict(zip(PLACES, (1.0, 10.0, 100.0), strict=True))
    held = {name: good(name, 30, 1, scale) for name, scale in scales.items()}
    return calibrate(held, {name: good(name, 80, 2, scale * 0.95) for name, scale in scales.items()})


def batch(*parts: tuple[str, float]) -> Detection:
    """A photo of each product with this score."""
    scores = torch.tensor([score for _, score in parts])
    descriptors = np.concatenate([photos(name, 1, seed=6) for name, _ in parts])
    return Detection(scores, scores[:, None, None].expand(-1, 4, 4) * 5, torch.from_numpy(descriptors).float())


def test_each_photo_is_held_against_its_own_product(calibration: Calibration) -> None:
    judge = ProductJudge(calibration, Asked())
    judged = judge(batch(("bolt", 1.0), ("bolt", 10.0), ("gear", 10.0), ("seal", 10.0), ("seal", 300.0)), [None] * 5)
    assert [one.verdict for one in judged] == ["normal", "anomalous", "normal", "normal", "anomalous"]
    assert [one.product for one in judged] == ["bolt", "bolt", "gear", "seal", "seal"]
    assert judged[0].calibrated == pytest.approx(judged[2].calibrated, abs=0.2), "the middle of either product"
    assert judged[1].calibrated > 3 > -np.log10(0.05) > judged[0].calibrated
    with pytest.raises(SIVTError, match="threshold_by pooled"):
        judge_of(calibration, Asked(by="pooled"))


def test_fewer_false_alarms_are_promised_by_a_higher_threshold(calibration: Calibration) -> None:
    limits = [
        ProductJudge(calibration, Asked(false_alarms=share)).threshold("bolt").image for share in (0.2, 0.05, 0.01)
    ]
    assert limits == sorted(limits)
    new = good("bolt", 2000, 8, 1.0)
    for share, limit in zip((0.2, 0.05, 0.01), limits, strict=True):
        assert (new.scores > limit).mean() < 1.8 * share
    given = ProductJudge(calibration, Asked(threshold=50.0))
    assert [one.verdict for one in given(batch(("bolt", 10.0), ("seal", 80.0)), [None] * 2)] == ["normal", "anomalous"]
    assert given.false_alarms is None


def test_what_is_unknown_is_called_so_unless_it_is_not_to_be(calibration: Calibration) -> None:
    strange = Detection(torch.tensor([0.1]), torch.zeros(1, 4, 4), torch.full((1, CHANNELS), 30.0))
    judged = ProductJudge(calibration, Asked())(strange, [None])[0]
    assert (judged.verdict, judged.product) == ("unknown", None)
    assert judged.nearest in PLACES
    taken = ProductJudge(calibration, Asked(unknown=False))(strange, [None])[0]
    assert (taken.verdict, taken.product) == ("normal", judged.nearest)


def test_the_sentence_says_for_which_products_photos_are_too_few(calibration: Calibration) -> None:
    assert calibration.promise(PLACES) == ""
    assert calibration.promise(PLACES, 0.01).startswith(
        "At most 1 % of good parts are to be called anomalous. For bolt, "
    )
    assert f"({needed(0.01)} would do)" in calibration.promise(PLACES, 0.01)
    with pytest.raises(SIVTError, match="share of good parts"):
        Asked(false_alarms=5.0)


def test_other_photos_renew_a_product_and_bring_new_ones(calibration: Calibration) -> None:
    later = calibrate(
        {
            "gear": good("gear", 40, 9, 20.0),
            "disc": good("bolt", 40, 9, 3.0)._replace(descriptors=photos("bolt", 40, 9) + 9),
        },
        {},
    )
    renewed = calibration.renewed(later)
    assert renewed.products.keys() == {*PLACES, "disc"}
    assert renewed.products["bolt"] == calibration.products["bolt"]
    assert renewed.products["gear"].score.threshold(0.05) == pytest.approx(
        2 * calibration.products["gear"].score.threshold(0.05), rel=0.3
    )
    disc = renewed.recogniser(photos("bolt", 20, 10) + 9)
    assert {one.product for one in disc} == {"disc"}
    assert all(one.strangeness <= 1 for one in disc)
    assert {one.product for one in renewed.recogniser(photos("seal", 20, 10))} == {"seal"}
    assert Calibration.from_plain(renewed.plain()) == renewed


@pytest.mark.parametrize(
    "damage",
    [
        {"recogniser": {}},
        {"products": {}},
        {"false_alarms": 2.0},
        {"recogniser": {"means": {"bolt": [0.0]}, "variance": [0.0], "reaches": {"bolt": 1.0}}},
        {"products": None},
    ],
)
def test_a_damaged_calibration_is_refused(calibration: Calibration, damage: dict[str, object]) -> None:
    with pytest.raises(SIVTError, match=r"damaged|share of good parts"):
        Calibration.from_plain(calibration.plain() | damage)


def test_descriptors_of_another_model_are_refused(recogniser: Recogniser) -> None:
    with pytest.raises(SIVTError, match="calibrate it again"):
        recogniser(np.zeros((1, CHANNELS + 1)))


def test_a_model_without_descriptors_is_refused(calibration: Calibration) -> None:
    bare = Detection(torch.ones(1), torch.ones(1, 2, 2))
    for use in (lambda: ProductJudge(calibration, Asked())(bare, [None]), lambda: Good.of(bare)):
        with pytest.raises(SIVTError, match=r"no descriptor.*Export it again"):
            use()


@pytest.mark.parametrize("products", [["bolt"], [*PLACES]])
def test_renewed_by_two_photos_a_product_reaches_as_far_as_before(products: list[str]) -> None:
    before = recogniser_of({name: photos(name) for name in products})
    two = recogniser_of({"bolt": photos("bolt", 2, seed=5, spread=0.01)})
    renewed = before.renewed(two, few=["bolt"])
    assert sum(one.strangeness > 1 for one in renewed(photos("bolt", 100, seed=6, spread=0.4))) <= 2


def test_what_is_no_number_is_of_no_product() -> None:
    good = Good(np.linspace(1, 2, 40), np.linspace(1, 2, 40), photos("bolt"))
    judge = ProductJudge(calibrate({"bolt": good}, {}), Asked())
    batch = Detection(torch.ones(1), torch.zeros(1, 2, 2), torch.full((1, CHANNELS), float("nan")))
    assert judge(batch, [None])[0].verdict == "unknown"
