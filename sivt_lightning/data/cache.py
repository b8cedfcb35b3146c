"""Features of a frozen backbone, kept so that they are computed once and not once an epoch."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class FeatureCache:
    """Feature maps in memory, as `dtype`, by position in a data set; each is computed when it is first asked for.

    Right only while an image's features never change: no augmentation, and a backbone that is not trained.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.features: dict[int, Float[Tensor, "C H W"]] = {}

    def __contains__(self, position: object) -> bool:
        return position in self.features

    def lookup(
        self,
        index: Int64[Tensor, " B"],
        images: Float[Tensor, "B 3 S S"],
        compute: Callable[[Float[Tensor, "new 3 S S"]], Float[Tensor, "new C H W"]],
    ) -> Float[Tensor, "B C H W"]:
        """The features of a batch in float32, `compute`d for those images only that were not seen before.

        One image at a time: the rounding of a convolution depends on how many images it is given, and a training that
        is continued meets them in other batches.
        """
        positions = index.tolist()
        for row, position in enumerate(positions):
            if position not in self.features:
                self.features[position] = compute(images[row : row + 1])[0].to(self.dtype).cpu()
        # Widened before they are stacked: under autocast to bfloat16, torch stacks no float16 tensors.
        return torch.stack([self.features[position].to(images.device).float() for position in positions])
