"""A secret from where nobody else sees it: a file or the environment, never an option's value."""

import os
from pathlib import Path

from sivt_lightning.errors import SIVTError

SHORTEST = 16  # letters: fewer can be guessed


def find_secret(path: str | None, option: str, variable: str, what: str = "token") -> str | None:
    """From the file, which an option names, or from the environment variable; None where there is neither.

    Raises SIVTError where there is a place for it, but no secret in it.
    """
    if path is None:
        secret, place = os.environ.get(variable), f"The environment variable {variable}"
        if secret is None:
            return None
    else:
        place = f"{option} {path}"
        try:
            secret = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SIVTError(f"{place} cannot be read. Give a text file that holds the {what}.") from error
    secret = secret.strip()
    if len(secret) < SHORTEST or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise SIVTError(
            f"{place} holds no {what}: put one word of {SHORTEST} or more ASCII letters and digits into it."
        )
    return secret
