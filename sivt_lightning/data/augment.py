"""Random changes of training images that the model shall take for normal; none by default, as in the paper."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from kornia.enhance import adjust_brightness_accumulative, adjust_contrast_with_mean_subtraction
from kornia.geometry.transform import get_affine_matrix2d, warp_affine
from torch import Tensor

from sivt_lightning.errors import SIVTError

Flip = Literal["none", "horizontal", "vertical", "both"]


class Augmentation(NamedTuple):
    """How far an image may be changed; all zero and "none" changes nothing.

    What a rotation or a shift brings into the picture from outside is the picture mirrored at its border.
    """

    rotation: float = 0.0  # largest angle in degrees, either way
    shift: float = 0.0  # largest distance as a share of the side, in either direction of both axes
    flip: Flip = "none"  # mirrors left and right, top and bottom, or both, each for half of the images
    light: float = 0.0  # largest change of brightness and of contrast, as a share of theirs

    def check(self) -> "Augmentation":
        """Raises SIVTError for a setting out of its range."""
        limits = {"rotation": 180, "shift": 0.5, "light": 1}
        for name, high in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= high:
                raise SIVTError(f"data.{name} is {value}: give a number from 0 (none) to {high}.")
        return self

    def __bool__(self) -> bool:
        return self != Augmentation()

    def __call__(
        self, images: Float[Tensor, "B 3 S S"], generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "B 3 S S"]:
        """Changes each image in [0, 1] by its own generator's numbers."""
        drawn = torch.stack([torch.rand(7, generator=generator) for generator in generators]).to(images.device)
        mirrored, signed = drawn[:, :2] < 0.5, 2 * drawn[:, 2:] - 1
        for axis, wanted in ((-1, "horizontal"), (-2, "vertical")):
            if self.flip in (wanted, "both"):
                images = torch.where(mirrored[:, axis, None, None, None], images.flip(axis), images)
        if self.rotation or self.shift:
            side = images.shape[-1]
            centre, scale = images.new_full((len(images), 2), (side - 1) / 2), images.new_ones(len(images), 2)
            matrix = get_affine_matrix2d(signed[:, :2] * self.shift * side, centre, scale, signed[:, 2] * self.rotation)
            images = warp_affine(images, matrix[:, :2], (side, side), padding_mode="reflection", align_corners=True)
        if self.light:
            factors = 1 + self.light * signed[:, 3:]
            images = adjust_brightness_accumulative(images, factors[:, 0])
            images = adjust_contrast_with_mean_subtraction(images, factors[:, 1])
        return images
