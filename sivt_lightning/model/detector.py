"""Images -> anomaly scores and maps: the one graph that training's validation, test and prediction share."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sivt_lightning.model.backbone import Backbone
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.memory_bank import MemoryBank
from sivt_lightning.model.partition import draw_partition
from sivt_lightning.model.reconstructor import Reconstructor
from sivt_lightning.model.scoring import Scoring
from sivt_lightning.model.settings import ModelSettings
from sivt_lightning.model.standardize import Standardize
from sivt_lightning.seeding import generator_for


class Detector(nn.Module):
    """Frozen backbone, reconstructor, memory bank and score, with the one partition that every evaluated image is seen
    through."""

    def __init__(
        self,
        backbone: Backbone,
        standardize: Standardize,
        reconstructor: Reconstructor,
        memory_bank: MemoryBank | None,
        scoring: Scoring,
    ) -> None:
        super().__init__()
        self.backbone, self.standardize, self.reconstructor = backbone, standardize, reconstructor
        self.memory_bank, self.scoring = memory_bank, scoring
        # Kept as numbers, not as a seed: a seed is no promise across torch versions.
        fixed = draw_partition(reconstructor.length, reconstructor.groups, generator_for(0))
        self.partition: Tensor
        self.calibrated: Tensor
        self.register_buffer("partition", fixed[None])
        self.register_buffer("calibrated", torch.tensor(False))

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        """Scores RGB images with values in [0, 1]."""
        return self.detect(self.features(images))[0]

    def features(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C H W"]:
        """The standardised feature map F that is to be reconstructed, in float32."""
        return self.standardize(self.backbone(images))

    def detect(self, features: Float[Tensor, "B C H W"]) -> tuple[Detection, Float[Tensor, "B C H W"]]:
        """What F says of the images, and F~, which it was held against: the one way from features to scores."""
        reconstruction = self.reconstruct(features)
        return self.score(features, reconstruction), reconstruction

    def reconstruct(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """F~ through the fixed partition, so that a score depends on no luck, batch size or order."""
        return self.reconstructor(features, self.partition)

    def score(self, features: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"]) -> Detection:
        """Eq. 3, the image score and the descriptor, in float32 whatever the precision of the network."""
        remembered = self.memory_bank(features) if self.memory_bank else None
        with torch.autocast(features.device.type, enabled=False):  # it would smooth in half precision
            return self.scoring(features, reconstruction, remembered)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Float[Tensor, "_ 3 S S"]]) -> None:
        """Measures on normal images what is measured, not learned: channel statistics of a random backbone and of F."""
        batches = list(batches)
        self.backbone.calibrate(batches)
        self.standardize.measure(self.backbone(images) for images in batches)
        self.calibrated.fill_(True)


def build_detector(settings: ModelSettings, restored: bool = False) -> Detector:
    """An untrained detector; `restored` where a checkpoint fills it."""
    backbone = Backbone(settings, restored)
    standardize = Standardize(backbone.channels, settings.standardize)
    reconstructor = Reconstructor(backbone.channels, settings)
    bank = MemoryBank(settings.memory_bank, backbone.channels) if settings.memory_bank else None
    return Detector(backbone, standardize, reconstructor, bank, Scoring.of(settings, backbone.parts))
