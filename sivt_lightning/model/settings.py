"""The settings of a model: what they are by default, what they may be, and what hangs on each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, get_args

from sivt_lightning.errors import SIVTError, first_line

Resize = Literal["area", "bilinear"]
Standardization = Literal["none", "channel", "whiten"]
Residual = Literal["outputs", "whole"]
ImageScore = Literal["highest", "deviation"]
OptimizerName = Literal["muon", "adamw"]
ScheduleName = Literal["cosine", "constant"]
CHOICES = {
    "resize": get_args(Resize),
    "standardize": get_args(Standardization),
    "residual": get_args(Residual),
    "image_score": get_args(ImageScore),
    "optimizer": get_args(OptimizerName),
    "schedule": get_args(ScheduleName),
}

# What a setting decides: the feature map, the shape of the reconstructor, the anomaly map, what is minimised and by
# which optimizer, how the training runs, where weights come from, the numbers that are drawn.
Role = Literal["features", "shape", "map", "loss", "optimizer", "training", "source", "seed"]


def setting(default: Any, role: Role, since: int = 0, before: Any = MISSING) -> Any:
    """A field of `ModelSettings`.

    Args:
        since: the first format of files (see `inference.formats`) that holds it.
        before: its value in files of earlier formats, by which their models go on giving the scores that they gave.
    """
    return field(default=default, metadata={"role": role, "since": since, "before": before})


@dataclass(frozen=True)
class ModelSettings:
    """Of one model. Raises SIVTError where a value cannot be, or not together with another.

    Args:
        backbone: timm network that makes the feature map; frozen. "pixels" for the image itself.
        strides: its outputs to use, as downsampling factors.
        blocks: of a vision transformer, whose outputs all have one stride, in place of `strides`: its blocks to use,
            the first being 0. `image_size` must be a multiple of its patch.
        weights: "imagenet" (timm's, downloaded or cached), "package" (ImageNet weights installed by pip, of
            tf_efficientnet_lite0 to 2), the path of a weight file, or "random".
        init_from: checkpoint of a trained model of the same shape to go on from with other data: its weights and
            statistics, nothing of its training. `weights` is not looked at then.
        image_size: side in pixels to which every image is resized.
        feature_stride: pixels of the image per position of the feature map.
        resize: how finer outputs of the backbone are brought to that: "area" averages them; the paper's "bilinear"
            interpolation takes four neighbours and leaves out the others.
        standardize: "channel" scales each feature channel to mean 0 and deviation 1 over the training images, "whiten"
            also takes out most of their correlation, "none" leaves them as they are.
        patch_size: P, side of a token's patch in positions of the feature map.
        groups: N, groups of positions that are induced together.
        width: D, length of a token.
        encoder_depth: transformer blocks before collecting the induced latents.
        decoder_depth: transformer blocks after it.
        heads: attention heads.
        mlp_ratio: width of an MLP's hidden layer over `width`.
        self_induction: false is the ablation, a vanilla transformer of the same shape.
        smoothing_sigma: deviation in pixels of the Gaussian over the anomaly map; 0 for none.
        residual: "outputs" takes Eq. 3 at each of the backbone's outputs and of these the geometric mean, in which the
            k-th counts k times; the paper's "whole" takes it of all outputs as one vector, where the largest drowns the
            others.
        map_power: upsampling and smoothing the map take the power mean of neighbours with this power: 1 is the paper's
            plain mean, 0 the geometric one.
        image_score: "highest" is the mean of the map's highest 1 %, "deviation" the paper's standard deviation.
        memory_bank: feature vectors of good photos that the model remembers, of all products together: Eq. 3 is also
            taken of each position and the nearest of them, and the map is the geometric mean of both; 0 for none, as
            in the paper.
        cosine_weight: lambda, weight of the cosine distance in the loss.
        latent_dropout: share of the latents' values that the decoder does not see in a training step, so that it
            learns less to rebuild defects; then train longer.
        pasted: share of the images of a training step into whose features pieces of other places in them are pasted,
            for the model to restore what belongs there.
        optimizer: "muon" orthogonalises the updates of the transformers' matrices (Jordan et al., 2024, scaled as
            in Liu et al., 2025) and leaves all else to AdamW; "adamw" is the paper's.
        learning_rate: peak of the schedule.
        weight_decay: of either optimizer.
        warmup: share of all optimizer steps in which the rate rises linearly to its peak.
        schedule: after the warm-up, a cosine to zero at the end of training or a constant rate.
        seed: linked to --seed_everything.
    """

    backbone: str = setting("tf_efficientnet_b4.aa_in1k", "features")
    strides: Sequence[int] = setting((2, 4, 8, 16), "features")
    blocks: Sequence[int] | None = setting(None, "features", since=3, before=None)
    weights: str = setting("imagenet", "source")
    init_from: str | None = setting(None, "source")
    image_size: int = setting(256, "features")
    feature_stride: int = setting(8, "features")
    resize: Resize = setting("area", "features")
    standardize: Standardization = setting("channel", "features")
    patch_size: int = setting(2, "shape")
    groups: int = setting(4, "shape")
    width: int = setting(240, "shape")
    encoder_depth: int = setting(12, "shape")
    decoder_depth: int = setting(8, "shape")
    heads: int = setting(12, "shape")
    mlp_ratio: float = setting(4.0, "shape")
    self_induction: bool = setting(True, "shape")
    smoothing_sigma: float = setting(3.0, "map")
    residual: Residual = setting("outputs", "map", since=3, before="whole")
    map_power: float = setting(0.0, "map")
    image_score: ImageScore = setting("highest", "map", since=3, before="deviation")
    memory_bank: int = setting(4096, "map", since=4, before=0)
    cosine_weight: float = setting(5.0, "loss")
    latent_dropout: float = setting(0.0, "training")
    pasted: float = setting(0.0, "training", since=3, before=0.0)
    optimizer: OptimizerName = setting("muon", "optimizer")
    learning_rate: float = setting(1e-2, "training")
    weight_decay: float = setting(1e-4, "training")
    warmup: float = setting(0.05, "training")
    schedule: ScheduleName = setting("cosine", "training")
    seed: int = setting(0, "seed")

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise SIVTError(f"{name} {getattr(self, name)}: choose one of {', '.join(choices)}.")
        self._check_features()
        self._check_shape()
        self._check_map()
        self._check_training()

    @property
    def grid(self) -> int:
        """Side of the feature map."""
        return self.image_size // self.feature_stride

    def _check_features(self) -> None:
        stride = self.feature_stride
        if stride < 1 or self.image_size < 1 or self.image_size % stride:
            raise SIVTError(
                f"image_size {self.image_size} is no multiple of feature_stride {stride}: the feature map would "
                f"have a broken edge. Choose an image_size of {stride}, {2 * stride}, ..."
            )

    def _check_shape(self) -> None:
        patch, width, heads = self.patch_size, self.width, self.heads
        if patch < 1 or self.grid % patch:
            raise SIVTError(
                f"patch_size {patch} does not divide the feature map's side of {self.grid}: "
                f"choose one of {[p for p in range(1, self.grid + 1) if self.grid % p == 0]}."
            )
        if width < 1 or heads < 1 or width % heads:
            raise SIVTError(f"width {width} cannot be split over {heads} heads: make width a multiple of heads.")
        if width % 4:
            raise SIVTError(f"width {width} is no multiple of 4, which the 2-D sine-cosine position code needs.")
        if self.encoder_depth < 1 or self.decoder_depth < 0:
            raise SIVTError(
                f"encoder_depth {self.encoder_depth} and decoder_depth {self.decoder_depth}: the encoder needs at "
                "least 1 block, the decoder at least 0."
            )
        if not 1 <= width * self.mlp_ratio < math.inf:
            raise SIVTError(
                f"mlp_ratio {self.mlp_ratio} leaves the MLP without a hidden unit: choose a positive ratio."
            )
        tokens = (self.grid // patch) ** 2
        if not 2 <= self.groups <= tokens and (self.self_induction or self.groups < 1):
            raise SIVTError(
                f"groups is {self.groups}, but self-induction needs from 2 to {tokens} groups (the number of tokens): "
                "with 1 group nothing of the image would be left to reconstruct from."
            )

    def _check_map(self) -> None:
        sigma = self.smoothing_sigma
        if not math.isfinite(sigma) or sigma < 0:
            raise SIVTError(f"smoothing_sigma is {sigma}: give a width of 0 pixels (no smoothing) or more.")
        if blur_radius(sigma) >= self.image_size:
            raise SIVTError(
                f"smoothing_sigma {sigma} reaches {blur_radius(sigma)} pixels, beyond an image of {self.image_size}: "
                f"choose {(self.image_size - 1) // 4} or less."
            )
        if not 0 <= self.map_power < math.inf:
            raise SIVTError(f"map_power is {self.map_power}: give 0 or a positive number, such as 1 (the paper's).")
        if self.memory_bank < 0:
            raise SIVTError(f"memory_bank is {self.memory_bank}: give a number of feature vectors, or 0 for none.")

    def _check_training(self) -> None:
        for name in ("cosine_weight", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SIVTError(f"{name} is {getattr(self, name)}: give 0 or a positive number.")
        if not 0 < self.learning_rate < math.inf:
            raise SIVTError(f"learning_rate is {self.learning_rate}: give a positive number.")
        if not 0 <= self.latent_dropout < 1:
            raise SIVTError(f"latent_dropout is {self.latent_dropout}: give a share of the values from 0 to below 1.")
        if not 0 <= self.pasted <= 1:
            raise SIVTError(f"pasted is {self.pasted}: give a share of the images from 0 to 1.")
        if not 0 <= self.warmup < 1:
            raise SIVTError(f"warmup is {self.warmup}: give a share of the training from 0 to below 1.")


def blur_radius(sigma: float) -> int:
    """Pixels that the Gaussian over the map reaches to either side: it is cut at 4 sigma."""
    return math.ceil(4 * sigma)


def names_of(*roles: Role) -> tuple[str, ...]:
    """The settings that decide one of these.

    >>> names_of("map", "seed")
    ('smoothing_sigma', 'residual', 'map_power', 'image_score', 'memory_bank', 'seed')
    """
    return tuple(each.name for each in fields(ModelSettings) if each.metadata["role"] in roles)


def not_said(number: int) -> dict[str, Any]:
    """The settings that files of this format cannot say, with the values by which their models are as they were."""
    return {each.name: each.metadata["before"] for each in fields(ModelSettings) if each.metadata["since"] > number}


def stored_settings(stored: Mapping[str, Any], number: int, file: str) -> ModelSettings:
    """The settings in a file of this format, or an earlier one: what it could not yet say gets the value of then.

    Raises SIVTError where it lacks one that its format has, or has one that is not known here.
    """
    names, known = {each.name for each in fields(ModelSettings)}, not_said(number) | dict(stored)
    if lost := sorted(names - known.keys()):
        raise SIVTError(
            f"{file}: made by another version of sivt_lightning, which did not say {', '.join(lost)}. "
            "Train the model again."
        )
    if strange := sorted(known.keys() - names):
        raise SIVTError(
            f"{file}: made by another version of sivt_lightning, whose {', '.join(strange)} is not known here. "
            "Use that version, or train the model again."
        )
    try:
        return ModelSettings(**known)
    except SIVTError:
        raise
    except Exception as error:  # a word where a number should stand fails anywhere
        raise SIVTError(f"{file}: its settings are damaged ({first_line(error)}). Give another.") from error
