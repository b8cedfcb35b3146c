"""One picture per image for people: the photo with its finding outlined, beside the photo under its anomaly map."""

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

LONGEST = 512  # a panel's longer side: two of them fit a screen
SHORTEST_LONG = 448  # smaller photos are enlarged until a person can see something
MARGIN, GAP, BAR, TEXT, TITLE = 16, 12, 18, 15, 20
NARROWEST, SHORTEST_BAR = 560, 120  # room for the header above a slim portrait, and for the numbers beside a low strip
NUMBERS = 80  # room for the numbers beside the colour bar

PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (95, 95, 95)
ALARM = (176, 58, 0)  # dark orange: told from black and grey under every colour blindness
OUTLINE, HALO = (0, 255, 255), (0, 0, 0)  # cyan is no colour of the map, the halo keeps it visible on a bright photo

# Seventeen points of "inferno" (S. van der Walt and N. Smith, matplotlib 1.5, CC0): lightness grows evenly from black
# to pale yellow, so that it reads alike in grey print and under every colour blindness.
INFERNO = np.array(
    [
        (0, 0, 4), (11, 7, 36), (32, 12, 74), (58, 9, 99), (87, 16, 110), (114, 25, 110), (140, 41, 99), (168, 46, 94),
        (187, 55, 84), (209, 72, 66), (227, 89, 51), (241, 115, 29), (249, 142, 9), (252, 171, 16), (249, 203, 53),
        (242, 234, 105), (252, 255, 164),
    ],
    dtype=np.float32,
)  # fmt: skip

IGNORED, HATCHED, HATCH = (128, 128, 128), (105, 105, 105), 12  # what is not inspected, and pixels between its lines

LEVEL = 85  # of 255: a third


class ColourScale(NamedTuple):
    """The map's values at the two ends of the colour bar. One scale serves a whole run, so its pictures compare."""

    vmin: float
    vmax: float


def scale_of(pixel_threshold: float) -> ColourScale:
    """From nothing to three times the pixel threshold; values above it saturate.

    The threshold is the one value known before the first picture is drawn, so no picture waits for the others. It
    lies a third of the way up: what is normal stays dark, and a faint defect still differs from a strong one.
    """
    return ColourScale(0.0, 3 * pixel_threshold if pixel_threshold > 0 else 1.0)


def levels(anomaly_map: Float[np.ndarray, "h w"], pixel_threshold: float) -> UInt8[np.ndarray, "h w"]:
    """The map as grey levels for report.html: 0 to 85 up to the threshold, 86 to 255 above it, three times it and more.

    >>> levels(np.array([[0.0, 1.0, 1.001, 2.0, 9.0]], np.float32), 1.0)
    array([[  0,  85,  86, 170, 255]], dtype=uint8)
    """
    steps = np.ceil(normalised(anomaly_map, scale_of(pixel_threshold)) * 255)
    above = anomaly_map > pixel_threshold  # said by the level whatever the rounding
    return np.where(above, np.maximum(steps, LEVEL + 1), np.minimum(steps, LEVEL)).astype(np.uint8)


class Finding(NamedTuple):
    """What the model says of one image; it is anomalous when its score exceeds the threshold."""

    name: str
    score: float
    threshold: float
    anomalous: bool
    pixel_threshold: float


def render_overlay(
    photo: Image.Image,
    anomaly_map: Float[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    finding: Finding,
    scale: ColourScale,
    inspected: Bool[np.ndarray, "h w"] | None = None,
) -> Image.Image:
    """Draw header, outlined photo, blended map and colour bar; map and mask are stretched to the photo's shape. What is
    not `inspected` is dimmed."""
    photo = fit(photo)
    limit = f"{finding.pixel_threshold:.3g}"
    panels = (
        (
            f"photo, outlined: map above {limit}" if mask.any() else f"photo, map nowhere above {limit}",
            outlined(dimmed(photo, inspected), mask),
        ),
        ("anomaly map over the photo", dimmed(blended(photo, normalised(anomaly_map, scale)), inspected)),
    )
    column = max(photo.width, *(round(font(TEXT).getlength(title)) for title, _ in panels)) + GAP
    top = MARGIN + 2 * TITLE + 3 * GAP + TEXT
    height = max(photo.height, SHORTEST_BAR)
    width = max(2 * column + BAR + NUMBERS, NARROWEST) + 2 * MARGIN

    canvas = Image.new("RGB", (width, top + height + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw_header(draw, finding, width - 2 * MARGIN)
    for i, (title, picture) in enumerate(panels):
        draw.text((MARGIN + i * column, top - TEXT - 5), title, INK, font(TEXT))
        canvas.paste(picture, (MARGIN + i * column, top))
    draw_bar(canvas, (MARGIN + column + photo.width + GAP, top), height, scale, finding.pixel_threshold)
    return canvas


def fit(photo: Image.Image) -> Image.Image:
    """The photo at a size for the screen, its proportions kept."""
    longest = max(photo.size)
    factor = min(LONGEST / longest, 1.0) if longest >= SHORTEST_LONG else SHORTEST_LONG / longest
    size = (max(1, round(photo.width * factor)), max(1, round(photo.height * factor)))
    return photo.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def normalised(values: Float[np.ndarray, "h w"], scale: ColourScale) -> Float[np.ndarray, "h w"]:
    """Values as positions on the colour bar, 0 to 1."""
    return np.clip((values - scale.vmin) / (scale.vmax - scale.vmin), 0, 1)


def inferno(position: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 3"]:
    """RGB colours (0 to 255) of positions from 0 to 1."""
    points = np.linspace(0, 1, len(INFERNO))
    return np.stack([np.interp(position, points, channel) for channel in INFERNO.T], axis=-1).astype(np.float32)


def blended(photo: Image.Image, position: Float[np.ndarray, "h w"]) -> Image.Image:
    """The map's colours, stretched to the photo, over the photo in grey, whose own colours would pass for the map's."""
    colours = Image.fromarray((position * 255).round().astype(np.uint8)).resize(photo.size, Image.Resampling.BILINEAR)
    colours.putpalette(_palette())
    return Image.blend(photo.convert("L").convert("RGB"), colours.convert("RGB"), 0.6)


@cache
def _palette() -> bytes:
    return inferno(np.linspace(0, 1, 256)).round().astype(np.uint8).tobytes()


def outlined(photo: Image.Image, mask: Bool[np.ndarray, "h w"]) -> Image.Image:
    """The photo with a bright line around what is masked, between two dark ones."""
    if not mask.any():
        return photo
    soft = Image.fromarray(mask.astype(np.uint8) * 255).resize(photo.size, Image.Resampling.BILINEAR)
    inside = np.asarray(soft) >= 128  # the mask's square steps, smoothed
    rings = [inside]
    for _ in range(4):
        rings.append(_grow(rings[-1]))
    pixels = np.array(photo)
    pixels[rings[4] & ~rings[3]] = HALO
    pixels[rings[3] & ~rings[0]] = OUTLINE
    pixels[inside & _grow(~inside)] = HALO
    return Image.fromarray(pixels)


def dimmed(photo: Image.Image, inspected: Bool[np.ndarray, "h w"] | None) -> Image.Image:
    """The photo, pale and hatched where it is not inspected."""
    if inspected is None:
        return photo
    soft = Image.fromarray(inspected.astype(np.uint8) * 255).resize(photo.size, Image.Resampling.BILINEAR)
    ignored = np.asarray(soft) < 128
    pixels, (rows, columns) = np.array(photo), np.indices(ignored.shape)
    pale = 0.4 * pixels + 0.6 * np.array(IGNORED)
    pale[(rows + columns) % HATCH == 0] = HATCHED
    pixels[ignored] = pale[ignored].round()
    return Image.fromarray(pixels)


def _grow(region: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The region and its neighbours on four sides."""
    grown = region.copy()
    grown[1:] |= region[:-1]
    grown[:-1] |= region[1:]
    grown[:, 1:] |= region[:, :-1]
    grown[:, :-1] |= region[:, 1:]
    return grown


def draw_header(draw: ImageDraw.ImageDraw, finding: Finding, width: int) -> None:
    """Verdict in a badge and the file's name, then score and threshold."""
    verdict = "ANOMALOUS" if finding.anomalous else "normal"
    badge = font(TITLE).getlength(verdict) + 2 * GAP
    box = (MARGIN, MARGIN, MARGIN + badge, MARGIN + TITLE + 10)
    if finding.anomalous:
        draw.rounded_rectangle(box, 5, fill=ALARM)
    else:
        draw.rounded_rectangle(box, 5, outline=INK, width=2)
    draw.text((MARGIN + GAP, MARGIN + 3), verdict, PAPER if finding.anomalous else INK, font(TITLE))
    name = shortened(finding.name, width - badge - GAP, TITLE)
    draw.text((MARGIN + badge + GAP, MARGIN + 3), name, INK, font(TITLE))
    sign = "above" if finding.anomalous or finding.score > finding.threshold else "not above"
    line = f"score {finding.score:.3g}, {sign} the threshold {finding.threshold:.3g}"
    draw.text((MARGIN, MARGIN + TITLE + GAP + 6), line, FAINT, font(TEXT))


def draw_bar(canvas: Image.Image, corner: tuple[int, int], height: int, scale: ColourScale, threshold: float) -> None:
    """The colour bar, as blended over mid-grey, with numbers at its ends and at the pixel threshold."""
    position = np.linspace(1, 0, height)[:, None].repeat(BAR, axis=1)
    canvas.paste(blended(Image.new("RGB", (BAR, height), (128, 128, 128)), position), corner)
    draw = ImageDraw.Draw(canvas)
    x, y = corner
    inner = scale.vmin < threshold < scale.vmax
    for value, text, colour in (
        (scale.vmin, f"{scale.vmin:.3g}", INK),
        (scale.vmax, f"{scale.vmax:.3g}+", INK),
        *([(threshold, f"{threshold:.3g}", OUTLINE)] if inner else []),
    ):
        level = y + round((1 - (value - scale.vmin) / (scale.vmax - scale.vmin)) * (height - 1))
        if colour == OUTLINE:  # the value at which the outline runs, in its colour
            draw.line((x, level, x + BAR, level), OUTLINE, 3)
        draw.line((x + BAR, level, x + BAR + 5, level), INK)
        draw.text((x + BAR + 9, min(max(level - 9, y - 3), y + height - TEXT - 1)), text, INK, font(TEXT))


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that a picture looks alike on every machine."""
    return ImageFont.load_default(size=size)


def shortened(name: str, width: float, size: int) -> str:
    """The name in letters that the font has, its middle left out where it is wider than ``width``."""
    name = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    name = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)  # the font draws nothing else
    kept = len(name)
    text = name
    while kept > 2 and font(size).getlength(text) > width:
        kept -= 1
        text = f"{name[: kept // 2]}...{name[len(name) - (kept - kept // 2) :]}"
    return text
