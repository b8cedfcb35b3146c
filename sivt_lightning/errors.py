"""The one exception for a user's mistake, and words for its sentence."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_SHOWN = 5  # names in a sentence
NOT_FINITE = (
    "not a finite number: the model diverged in training, or the precision is too narrow for it. "
    "Train with a lower learning rate, or run with --trainer.precision 32-true."
)


class SIVTError(ValueError):
    """One sentence for the user: the thing at fault, the reason, the remedy. The command line prints it and exits."""


class Stopped(SIVTError):
    """The user stopped the work; the message says how to go on."""


def first_line(error: BaseException) -> str:
    """What an exception of somebody else's says, for within a sentence: its first line, or its kind where it is mute.

    >>> first_line(RuntimeError("No kernel found.\\nStack: 0x1")), first_line(AssertionError())
    ('No kernel found', 'AssertionError')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .:")


class Agreed(SIVTError):
    """An error that all processes have agreed on and raise at once: the first one says it for all."""


class Finished(SIVTError):
    """There is nothing to be done, and that is no fault; the message says why."""


def did_you_mean(word: str, known: Iterable[str], most: int, cutoff: float = 0.6) -> str:
    """A question that names up to `most` known words like this one, or "".

    >>> did_you_mean("tset", ["fit", "test", "predict"], 1)
    'did you mean test?'
    """
    near = get_close_matches(word, list(known), n=most, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}?" if near else ""


def listing(names: Iterable[str], limit: int = MOST_SHOWN) -> str:
    """The first few names, and how many more there are.

    >>> listing("abc", limit=2)
    'a, b and 1 more'
    """
    shown = list(names)
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more
