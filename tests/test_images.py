"""Decoding: every pixel format comes out as the pixels a person would see, and every bad file as one sentence."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sivt_lightning.data.images import read_image, to_tensor
from sivt_lightning.data.masks import mask_to_tensor, read_mask
from sivt_lightning.errors import SIVTError

WHITE = (255, 255, 255)


def array(*values: float, dtype: type | str) -> Image.Image:
    """A one-row grey image of these values."""
    return Image.fromarray(np.array([values], dtype=dtype))


def row(mode: str, *pixels: object) -> Image.Image:
    """A one-row image of these pixels."""
    image = Image.new(mode, (len(pixels), 1))
    for x, pixel in enumerate(pixels):
        image.putpixel((x, 0), pixel)
    return image


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    """A one-row palette image that shows its palette, index 0 first."""
    image = row("P", *range(len(colours)))
    image.putpalette([channel for colour in colours for channel in colour])
    return image


def read_back(folder: Path, image: Image.Image, suffix: str = ".png", **options: object) -> list[tuple[int, ...]]:
    path = folder / f"photo{suffix}"
    image.save(path, **options)
    return rgb(path)


def rgb(path: Path) -> list[tuple[int, ...]]:
    image = read_image(path).image
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def write_png(path: Path, rows: list[bytes], width: int, depth: int, colour_type: int) -> None:
    """A PNG of any depth; Pillow itself writes no 16-bit colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".Bmp", ".tif", ".TIFF"])
def test_colours_survive_in_every_lossless_format(tmp_path: Path, suffix: str) -> None:
    pixels = [(255, 0, 10), (1, 2, 3)]
    assert read_back(tmp_path, row("RGB", *pixels), suffix) == pixels


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_formats_are_read(tmp_path: Path, suffix: str) -> None:
    assert np.allclose(read_back(tmp_path, Image.new("RGB", (16, 16), (200, 100, 50)), suffix), (200, 100, 50), atol=4)


@pytest.mark.parametrize(
    ("image", "suffix", "options", "expected"),
    [
        pytest.param(row("L", 0, 100, 255), ".png", {}, [0, 100, 255], id="grey"),
        pytest.param(row("1", 0, 1), ".png", {}, [0, 255], id="1-bit"),
        pytest.param(row("1", 0, 1), ".tif", {}, [0, 255], id="1-bit TIFF"),
        pytest.param(palette((9, 9, 9), (200, 200, 200)), ".png", {}, [9, 200], id="palette"),
        pytest.param(palette((9, 9, 9), (200, 200, 200)), ".png", {"transparency": 0}, [255, 200], id="palette, clear"),
        pytest.param(
            palette((0, 0, 0), (0, 0, 0)), ".png", {"transparency": b"\xff\x7f"}, [0, 128], id="palette, half clear"
        ),
        pytest.param(row("L", 7, 8), ".png", {"transparency": 7}, [255, 8], id="grey, clear"),
        pytest.param(row("LA", (100, 255), (100, 0), (0, 127)), ".png", {}, [100, 255, 128], id="grey and alpha"),
        pytest.param(row("RGBA", (5, 5, 5, 255), (0, 0, 0, 0)), ".png", {}, [5, 255], id="colour and alpha"),
        pytest.param(row("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), ".tif", {}, [255, 0], id="CMYK"),
        pytest.param(array(0, 257, 32768, 65535, dtype="<u2"), ".png", {}, [0, 1, 128, 255], id="16-bit PNG"),
        pytest.param(array(0, 257, 32768, 65535, dtype="<u2"), ".tif", {}, [0, 1, 128, 255], id="16-bit TIFF"),
        pytest.param(array(0, 257, 32768, 65535, dtype=">u2"), ".tif", {}, [0, 1, 128, 255], id="16-bit TIFF, big end"),
        pytest.param(array(0, 128, 129, 65535, dtype="<i4"), ".tif", {}, [0, 0, 1, 255], id="32-bit TIFF, rounded"),
        pytest.param(array(0, 0.5, 1, dtype="<f4"), ".tif", {}, [0, 128, 255], id="floating point"),
    ],
)
def test_every_mode_becomes_8_bit_rgb(
    tmp_path: Path, image: Image.Image, suffix: str, options: dict[str, object], expected: list[int]
) -> None:
    assert read_back(tmp_path, image, suffix, **options) == [(value,) * 3 for value in expected]


def test_16_bit_colour_is_scaled_not_clipped(tmp_path: Path) -> None:
    write_png(tmp_path / "deep.png", [struct.pack(">6H", 0, 0x8000, 0xFFFF, 0x0100, 0x4000, 0xC000)], 2, 16, 2)
    assert np.allclose(rgb(tmp_path / "deep.png"), [(0, 128, 255), (1, 64, 191)], atol=1)


def test_lab_white_is_white(tmp_path: Path) -> None:
    assert np.allclose(read_back(tmp_path, Image.new("LAB", (1, 1), (255, 128, 128)), ".tif"), 255, atol=2)


def test_cmyk_jpeg_white_stays_white(tmp_path: Path) -> None:
    assert np.allclose(read_back(tmp_path, Image.new("CMYK", (8, 8), (0, 0, 0, 0)), ".jpg"), 255, atol=2)


ORIENTED = {  # what a viewer shows for the stored rows [[1, 2, 3], [4, 5, 6]], by EXIF orientation
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", list(ORIENTED))
@pytest.mark.parametrize("depth", [8, 16])
def test_exif_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int, depth: int) -> None:
    step = 257 if depth == 16 else 1
    stored = (np.array([[1, 2, 3], [4, 5, 6]]) * step).astype(f"uint{depth}")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"turned{suffix}", exif=exif)
    assert np.asarray(read_image(tmp_path / f"turned{suffix}").image)[..., 0].tolist() == ORIENTED[orientation]
    assert read_mask(tmp_path / f"turned{suffix}").pixels.shape == np.shape(ORIENTED[orientation])


def test_a_phone_photo_is_turned_and_a_damaged_exif_block_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.new("RGB", (32, 16))
    photo.save(tmp_path / "phone.jpg", exif=exif)
    photo.save(tmp_path / "damaged.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    assert read_image(tmp_path / "phone.jpg").image.size == (16, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "damaged.jpg").image.size == (32, 16)


def saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"not an image at all", "is not a valid PNG, JPEG, BMP, TIFF or WebP image", id="text"),
        pytest.param(saved(NOISE, "GIF"), "is not a valid PNG, JPEG, BMP, TIFF or WebP image", id="GIF"),
        *(
            pytest.param(saved(NOISE, kind)[:-1500], "cut off or damaged", id=f"half a {kind}")
            for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
        ),
        pytest.param(saved(NOISE, "PNG").replace(b"IDAT", b"JDAT"), "is not a valid PNG", id="PNG without pixels"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_name(
    tmp_path: Path, read: Callable[[Path], object], content: bytes, reason: str
) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(SIVTError, match=reason) as error:
        read(path)
    assert str(error.value).startswith(f"{path} cannot be read: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        pytest.param(array(0, 65536, dtype="<i4"), "run from 0 to 65536, but .* from 0 to 65535", id="too high"),
        pytest.param(array(-1, 5, dtype="<i4"), "run from -1 to 5, but .* from 0 to 65535", id="negative"),
        pytest.param(array(0, 812.5, dtype="<f4"), "run from 0 to 812.5, but .* from 0 to 1", id="float too high"),
        pytest.param(array(-0.1, 0.5, dtype="<f4"), "run from -0.1 to 0.5, but .* from 0 to 1", id="float negative"),
        pytest.param(array(np.nan, 0.5, dtype="<f4"), "run from nan to nan, but .* from 0 to 1", id="not a number"),
    ],
)
def test_pixels_of_unknown_meaning_are_refused(tmp_path: Path, image: Image.Image, reason: str) -> None:
    with pytest.raises(SIVTError, match=reason):
        read_back(tmp_path, image, ".tif")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SIVTError, match="it does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(SIVTError, match="it is a folder"):
        read_image(tmp_path)


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)  # not by chmod, which root may override
    with pytest.raises(SIVTError, match="permission is denied"):
        read_image(tmp_path / "photo.png")


def test_large_images_are_read_silently_and_bombs_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    NOISE.save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)  # Pillow warns from here, and refuses the double
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)
    with pytest.raises(SIVTError, match="it has too many pixels"):
        read_image(tmp_path / "photo.png")


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        pytest.param(array(0, 1, 255, dtype="u1"), ".png", id="grey"),
        pytest.param(row("1", 0, 1, 1), ".png", id="1-bit"),
        pytest.param(palette((0, 0, 0), (0, 0, 0), (255, 0, 0)), ".png", id="palette index"),
        pytest.param(array(0, 1, 65535, dtype="<u2"), ".png", id="16-bit"),
        pytest.param(array(0, 1, 70000, dtype="<i4"), ".tif", id="32-bit"),
        pytest.param(array(0, 1e-6, 9, dtype="<f4"), ".tif", id="floating point"),
        pytest.param(row("RGB", (0, 0, 0), (0, 1, 0), (0, 0, 255)), ".png", id="one channel"),
        pytest.param(row("RGBA", (0, 0, 0, 255), (1, 0, 0, 255), (255, 0, 0, 255)), ".png", id="opaque"),
        pytest.param(row("LA", (0, 255), (1, 255), (255, 255)), ".png", id="grey, opaque"),
        pytest.param(row("CMYK", (0, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 128)), ".tif", id="CMYK black is black"),
    ],
)
def test_any_positive_mask_value_is_anomalous(tmp_path: Path, image: Image.Image, suffix: str) -> None:
    image.save(tmp_path / f"mask{suffix}")
    mask = read_mask(tmp_path / f"mask{suffix}").pixels
    assert mask.dtype == bool
    assert mask.tolist() == [[False, True, True]]


def test_a_jpeg_mask_does_not_grow_by_its_artefacts(tmp_path: Path) -> None:
    drawn = np.zeros((64, 64), np.uint8)
    drawn[20:43, 17:50] = 255
    Image.fromarray(drawn).save(tmp_path / "mask.jpg", quality=60)
    assert (np.asarray(Image.open(tmp_path / "mask.jpg"))[drawn == 0] > 0).any()
    assert np.array_equal(read_mask(tmp_path / "mask.jpg").pixels, drawn > 0)


def test_to_tensor_keeps_channels_apart_and_averages_fine_detail() -> None:
    checks = np.zeros((64, 96, 3), np.uint8)
    checks[::2, ::2, 0] = checks[1::2, 1::2, 0] = 255  # red alternates from pixel to pixel
    checks[..., 2] = 51
    tensor = to_tensor(Image.fromarray(checks), 8)
    assert tensor.shape == (3, 8, 8)
    assert tensor.dtype == torch.float32
    assert (tensor[0] - 0.5).abs().max() < 0.02  # without antialiasing it would be 0 or 1
    assert torch.equal(tensor[1:], torch.tensor([0.0, 0.2])[:, None, None].expand(2, 8, 8))


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (256, 256), (512, 512), (192, 192), (128, 256), (31, 7)])
def test_to_tensor_has_the_pixels_of_pillow(shape: tuple[int, int]) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    for size in (1, 64):
        theirs = np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR))
        assert np.array_equal((to_tensor(photo, size) * 255).permute(1, 2, 0).numpy().round(), theirs)


def test_mask_to_tensor_is_nearest() -> None:
    mask = np.zeros((4, 8), bool)
    mask[:, 3] = True
    assert mask_to_tensor(mask, 16).dtype == torch.bool
    assert mask_to_tensor(mask, 16)[0].tolist() == [False] * 6 + [True] * 2 + [False] * 8
