"""How deep photos are: which stored value is white.

A file of 8 bits a channel says so itself. One of 16 does not: cameras write 10, 12 or 14 bits into it, and floating
point may hold 0 to 1 or 0 to 255. Taken for another depth a photo is black, or clipped; so a model keeps the one that
it was trained on, and a photo that cannot have it is refused.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import UInt8

from sivt_lightning.errors import SIVTError

# "bytes": files of 8 bits alone. A number: the bits that count in files of more. "float": decimals from 0 to 1;
# "float12": decimals that are the integers of 12 bits.
Depth = Literal["bytes", 8, 10, 12, 14, 16, "float", "float8", "float10", "float12", "float14", "float16"]
Kind = Literal["bytes", "integers", "decimals"]  # what a file or an array holds; bytes need no depth
DEPTHS: tuple[Depth, ...] = get_args(Depth)
ROUNDING = 1e-3  # by which decimals may exceed 1, as resampling leaves them
DARKEST = 16.0  # decimals that stay below this and above 1 are neither 0 to 1 nor the integers of a camera


class Seen(NamedTuple):
    """The pixel values of a photo of more than 8 bits."""

    kind: Kind
    highest: float


class DoesNotFit(ValueError):
    """A photo's values are not those of its model's photos; the message is the reason."""

    remedy = "If the photo is right, train with a depth that holds it: --data.depth (8, 10, 12, 14, 16 or float)."


class HasNoDepth(DoesNotFit):
    """What is white in a photo is not known."""

    remedy = "Give its depth (8, 10, 12, 14, 16 or float): --data.depth, of serve --depth, in Python depth=."


def white_of(depth: Depth) -> float:
    """The stored value that is white.

    >>> white_of(12), white_of("float"), white_of("float8")
    (4095.0, 1.0, 255.0)
    """
    if depth == "float":
        return 1.0
    bits = depth if isinstance(depth, int) else int(str(depth).removeprefix("float"))
    return float(2**bits - 1)


def check_depth(given: Depth | None, trained: Depth | None) -> None:
    """Raises SIVTError where a depth is given for a model whose photos have another one: its scores are of these."""
    if given is not None and trained not in (None, "bytes", given):
        raise SIVTError(
            f"depth is {given}, but the model was trained on photos of depth {trained}, and its scores are of these: "
            f"leave it out, or train again with --data.depth {given}."
        )


def decide(photos: Iterable[Seen]) -> Depth:
    """The least depth that holds every value in these photos of more than 8 bits; "bytes" where there are none.

    Raises SIVTError where they hold both integers and decimals, or decimals of no known range.

    >>> decide([Seen("integers", 900.0), Seen("integers", 3987.0)]), decide([Seen("decimals", 0.8)]), decide([])
    (12, 'float', 'bytes')
    """
    highest: dict[Kind, float] = {}
    for kind, value in photos:
        highest[kind] = max(value, highest.get(kind, 0.0))
    if not highest:
        return "bytes"
    if len(highest) > 1:
        raise SIVTError(
            "Some of the training photos hold integers of more than 8 bits and others decimals, so what white is stays "
            "unclear: convert them to one kind, or train on one kind only."
        )
    ((kind, value),) = highest.items()
    if kind == "decimals" and value <= 1 + ROUNDING:
        return "float"
    if kind == "decimals" and value < DARKEST:
        raise SIVTError(
            f"The decimals in the training photos run up to {value:g}: neither from 0 to 1 nor, in all likelihood, to "
            "255 or more. Say what they are with --data.depth (float, or float8 for 0 to 255, float12 for 0 to 4095)."
        )
    fitting = [depth for depth in DEPTHS[1:] if _kind_of(depth) == kind and value <= white_of(depth)]
    if fitting:
        return min(fitting, key=white_of)
    raise SIVTError(f"The values in the training photos run up to {value:g}, but 65535 is the most that is accepted.")


def to_bytes(values: np.ndarray, kind: Kind, depth: Depth | None) -> UInt8[np.ndarray, "*shape"]:
    """Stored values of more than 8 bits as 0 to 255, by the depth that the model's photos have.

    None is how models are used that know of no depth: full 16 bits, and decimals from 0 to 1.
    Raises DoesNotFit.
    """
    asked: Depth = ("float" if kind == "decimals" else 16) if depth is None else depth
    low, high = float(values.min()), float(values.max())
    name = "decimals" if kind == "decimals" else "integers of more than 8 bits"
    if asked == "bytes":
        raise HasNoDepth(f"it holds {name}, but the model was trained on photos of 8 bits, so what white is is unknown")
    if _kind_of(asked) != kind:
        own = "decimals" if isinstance(asked, str) else f"integers of {asked} bits"
        raise DoesNotFit(f"it holds {name}, but the model's photos hold {own}")
    white = white_of(asked)
    if not (low >= 0 and high <= white * (1 + ROUNDING * (kind == "decimals"))):  # said this way round, NaN fails too
        span = f"{low:g} to {high:g}"
        raise DoesNotFit(f"its values run from {span}, but those of the model's photos ({asked}) from 0 to {white:g}")
    if asked == "float":
        return np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    if kind == "decimals":
        values = np.rint(values.clip(0, white)).astype(np.uint16)
    if depth is None:  # to the nearest, as ever for models that know of no depth
        wide = values.astype(np.uint32)  # changed in place, for photos are large
        wide += 128
        wide //= 257
        return wide.astype(np.uint8)
    # The upper bits, which are what the camera itself would have written into 8.
    return (values >> (int(white).bit_length() - 8)).astype(np.uint8)


def _kind_of(depth: Depth) -> Kind:
    """What photos of this depth hold."""
    return "integers" if isinstance(depth, int) else "decimals"
