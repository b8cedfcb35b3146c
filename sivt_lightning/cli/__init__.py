"""`sivt`: which command is meant, and how it ends."""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module

from sivt_lightning.cli.arguments import UsageError
from sivt_lightning.cli.ending import ending, is_first, leave_processes
from sivt_lightning.cli.help import HELP, front_page
from sivt_lightning.cli.options import LISTED, checked
from sivt_lightning.cli.quiet import quiet_lightning
from sivt_lightning.errors import did_you_mean
from sivt_lightning.files import SHOWN

LIGHTNING = ("fit", "test", "predict")  # Trainer methods; every other command is a file of this folder


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code.

    0 done, 1 a clear error or stopped, 2 wrong usage, 3 done but some images unreadable. --debug shows where an error
    comes from, --quiet leaves errors alone to be said.
    """
    args = sys.argv[1:] if args is None else list(args)
    for screen in (sys.stdout, sys.stderr):
        if isinstance(screen, io.TextIOWrapper):
            screen.reconfigure(errors=SHOWN)  # a file name need be no UTF-8
    debug, quiet = "--debug" in args, "--quiet" in args
    args = [argument for argument in args if argument not in ("--debug", "--quiet")]
    try:
        with contextlib.ExitStack() as stack:
            if quiet:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))  # noqa: PTH123
            return _run(args)
    except BrokenPipeError:  # whoever read the output, `head` say, has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  Python would complain once more at its end
        return 0
    except BaseException as error:
        end = ending(error, is_first())
        if end is None:
            raise
        said, code = end
        if debug and code:
            traceback.print_exc()
        if said and (code or not quiet):
            print(said, file=sys.stderr if code else sys.stdout)
        return code
    finally:
        leave_processes()


def _run(args: Sequence[str]) -> int:
    verb, *rest = args or [""]
    if verb in ("-h", "--help"):
        print(front_page(), flush=True)
        sys.exit(0)
    if not verb:
        raise UsageError(f"Give a command: {', '.join(HELP)}. `sivt --help` says what they do.")
    if verb not in HELP:
        meant = did_you_mean(verb, HELP, 1) or f"there are {', '.join(HELP)}."
        raise UsageError(f"There is no command {verb}: {meant}")
    if verb in LISTED:
        rest = checked(verb, rest)  # before the command is loaded
    return command(verb)(rest)


def command(verb: str) -> Callable[[Sequence[str]], int]:
    """What a command does, loaded when it is asked for: torch takes seconds."""
    if verb not in LIGHTNING:
        run: Callable[[Sequence[str]], int] = import_module(f"{__name__}.{verb.replace('-', '_')}").run
        return run
    if verb == "fit":
        from sivt_lightning.cli.fit import FitCLI as CLI
    else:
        from sivt_lightning.cli.trained import TrainedCLI as CLI  # type: ignore[assignment]
    quiet_lightning()  # not before: it sets its own levels when it is loaded
    return lambda args: CLI([verb, *args]).exit_code
