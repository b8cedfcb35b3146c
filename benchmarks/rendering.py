"""What do reconstructed features look like? They are rendered back to images by a small decoder (paper, Fig. 6).

    python benchmarks/rendering.py SHEET.png SELF_INDUCTION.ckpt VANILLA.ckpt

The checkpoints must have the same backbone, image size, standardisation and data, as those of
configs/experiments/induction.yaml have. The decoder learns to turn the features of the training images back into
these; it sees no reconstruction and no test image. Then, for one anomalous test image of each category (the one of
middle score by the first checkpoint), the sheet shows the image with its defect outlined, its features rendered, and
what each checkpoint reconstructs of them, rendered.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trained import load

from sivt_lightning.data.dataset import collate
from sivt_lightning.errors import SIVTError
from sivt_lightning.evaluation.gallery import choose
from sivt_lightning.report.overlay import outlined
from sivt_lightning.system import keep_freed_memory

SHARED = ("backbone", "strides", "image_size", "feature_stride", "standardize")
STEPS, BATCH, GAP = 600, 8, 6


class Renderer(nn.Sequential):
    """Features -> image: convolutions, each but the last followed by an upsampling to twice the size."""

    def __init__(self, channels: int, grid: int, image_size: int) -> None:
        stages: list[nn.Module] = [nn.Conv2d(channels, 96, 1), nn.GELU()]
        width, side = 96, grid
        while side < image_size:
            side, narrower = min(2 * side, image_size), max(24, width // 2)
            stages += [nn.Conv2d(width, narrower, 3, padding=1), nn.GELU(), nn.Upsample(size=side, mode="bilinear")]
            width = narrower
        super().__init__(*stages, nn.Conv2d(width, 3, 3, padding=1))


def train_renderer(features: Tensor, images: Tensor) -> Renderer:
    """Learns to turn features (B, C, H, W) back into the images (B, 3, S, S) that they are of, by their L1 distance."""
    torch.manual_seed(0)
    renderer = Renderer(features.shape[1], features.shape[2], images.shape[2])
    optimizer = torch.optim.AdamW(renderer.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for step in range(STEPS):
        chosen = torch.randint(len(features), (BATCH,))
        loss = (renderer(features[chosen].float()) - images[chosen].float() / 255).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: mean difference of a pixel {loss.item():.4f}", flush=True)
    return renderer.eval()


def main(sheet: str, *paths: str) -> None:
    """Train the decoder, render, save the sheet."""
    keep_freed_memory()
    loaded = [load(path) for path in paths]
    detectors = [detector for detector, _, _ in loaded]
    _, data, settings = loaded[0]
    for path, (_, _, others) in zip(paths, loaded, strict=True):
        for name in SHARED:
            if others[name] != settings[name]:
                raise SIVTError(f"{path}: has model.{name} {others[name]}, {paths[0]} has {settings[name]}.")
    first = detectors[0]
    kept, images, scores = [], [], {}
    with torch.inference_mode():
        for batch in DataLoader(data.train_set, batch_size=16, collate_fn=collate):
            kept.append(first.features(batch.images).half())
            images.append((batch.images * 255).round().byte())
        for batch in DataLoader(data.test_set, batch_size=16, collate_fn=collate):
            scores |= dict(zip(batch.index.tolist(), first(batch.images).score.tolist(), strict=True))
    renderer = train_renderer(torch.cat(kept), torch.cat(images))
    rows = []
    for chosen in choose(data.test_set.samples, scores).values():
        item = data.test_set[chosen["middle"]]
        with torch.inference_mode():
            features = first.features(item.image[None])
            shown = [features, *(detector.reconstruct(features) for detector in detectors)]
            pictures = [rearrange(renderer(f)[0].clamp(0, 1), "c h w -> h w c").numpy() for f in shown]
        photo = Image.fromarray((item.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
        cells = [
            np.asarray(outlined(photo, item.mask.numpy())),
            *((p * 255).round().astype(np.uint8) for p in pictures),
        ]
        rows.append(
            np.concatenate([np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for cell in cells], 1)
        )
    Image.fromarray(np.concatenate(rows)).save(Path(sheet))
    print(f"Written: {sheet}: image, its features, then those reconstructed by {', '.join(paths)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
