"""How fast a GPU turns images into scores and maps: eager, replayed, compiled; in float32 and bfloat16.

    python benchmarks/gpu_inference.py                       (the paper's model, random weights)
    python benchmarks/gpu_inference.py --compile true        (takes minutes to compile)
    python benchmarks/gpu_inference.py --device cpu --batches 1          (tries the script out)

Images come from the CPU, and what is found goes back to it; "replayed" is what `test`, `predict`, `serve` and
`Predictor` do with up to 32 images. Each figure is the median of some seconds. "Share" is multiply-adds a second
against those of a 8192 x 8192 matrix product in bfloat16 in the same run.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sivt_lightning.benchmark.counts import multiply_adds
from sivt_lightning.cli.quiet import quiet_lightning
from sivt_lightning.inference.replaying import Replaying, on_cpu
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.detector import Detector
from sivt_lightning.model.precision import autocast
from sivt_lightning.training.module import SIVT

SMALL = {"width": 128, "encoder_depth": 4, "decoder_depth": 2, "heads": 4}


def seconds_of(call: Callable[[], object], device: torch.device, least: float) -> float:
    """Median of one call, to the end of what the device does for it."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):  # compiles, and records
        call()
    wait()
    times: list[float] = []
    while len(times) < 5 or sum(times) < least:
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def runner(detector: Detector, precision: str, device: torch.device) -> Callable[[Tensor], Detection]:
    """In this precision, without gradients."""

    @torch.inference_mode()
    def run(images: Tensor) -> Detection:
        with autocast(precision, device.type):
            return detector(images)

    return run


def call_of(kind: str, run: Callable[[Tensor], Detection], device: torch.device) -> Callable[[Tensor], Detection]:
    """From images on the CPU to what is found, there too."""
    if kind == "replayed":
        return Replaying(run, device)
    return lambda images: on_cpu(run(images.to(device)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", choices=["true", "false"], default="false", help="the model of configs/small.yaml")
    parser.add_argument("--compile", choices=["true", "false"], default="false")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=2.0, help="least time for each figure")
    settings = parser.parse_args()
    quiet_lightning()
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here that torch can use; --device cpu tries the script out")
    module = SIVT(weights="random", **(SMALL if settings.small == "true" else {})).eval()
    detector = module.detector.to(device)
    counts = multiply_adds(detector)
    operations = counts["backbone"] + counts["reconstructor_fast"] + counts["memory_bank"]
    side = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    rate = side**3 / seconds_of(lambda: one @ other, device, settings.seconds)
    kinds = {"eager": detector} | ({"replayed": detector} if device.type == "cuda" else {})
    if settings.compile == "true":
        kinds["compiled"] = torch.compile(detector, mode="max-autotune" if device.type == "cuda" else None)
    print(f"{rate / 1e12:.3f} T multiply-adds/s of a bfloat16 matrix product, {operations / 1e9:.2f} G an image")
    print("| path | precision | batch | ms | images/s | share | gain |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    plain: dict[int, float] = {}
    for kind, network in kinds.items():
        for precision in ("32-true", "bf16-mixed"):
            call = call_of(kind, runner(network, precision, device), device)
            for batch in settings.batches:
                images = torch.rand(batch, 3, detector.backbone.image_size, detector.backbone.image_size)
                seconds = seconds_of(lambda call=call, images=images: call(images), device, settings.seconds)  # type: ignore[misc]
                speed = batch / seconds
                plain.setdefault(batch, speed)
                cells = f"{1e3 * seconds:.2f} | {speed:.1f} | {speed * operations / rate:.2f}"
                print(f"| {kind} | {precision} | {batch} | {cells} | {speed / plain[batch]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
