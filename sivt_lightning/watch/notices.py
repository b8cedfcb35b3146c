"""What is said beside the log."""

import sys


def say(sentence: str) -> None:
    """A line to stderr, in one piece, from whichever thread."""
    sys.stderr.write(f"sivt: {sentence}\n")
    sys.stderr.flush()
