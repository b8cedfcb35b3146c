"""The one exception for a user's mistake."""


class SIVTError(ValueError):
    """One sentence for the user: the thing at fault, the reason, the remedy. The command line prints it and exits."""


class Stopped(SIVTError):
    """The user stopped the work; the message says how to go on."""
