"""`sivt watch`."""

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.cli.verdict_options import add_model, add_verdicts, ready_predictor
from sivt_lightning.errors import SIVTError
from sivt_lightning.secret import find_secret
from sivt_lightning.system import share_heap

SECRET = "SIVT_WEBHOOK_SECRET"
POLL = 0.05  # seconds between two looks at a network share: what arrives is to be judged within 0.2


def parse_settings(args: Sequence[str]) -> Any:
    """From flags. Raises SIVTError where they cannot be or go not together."""
    parser = verb_parser("watch")
    add_model(parser)
    parser.add_argument("--folder", type=str, required=True, help="Where photos arrive; sub-folders are not watched.")
    parser.add_argument("--log", type=str, required=True, help="File of the results, a line of JSON for each photo.")
    text = "Move each photo into ok/, ng/ or unknown/ of the folder, once it has its line."
    parser.add_argument("--move", action="store_true", help=text)
    parser.add_argument("--webhook", type=str | None, help="Address that each line is sent to, by POST.")
    text = f"File that holds the secret that signs them. Default: the environment variable {SECRET}."
    parser.add_argument("--webhook_secret_file", type=str | None, help=text)
    text = "Lines that wait for the webhook, on the disk; of more the oldest are left out."
    parser.add_argument("--webhook_queue", type=int, default=10_000, help=text)
    text = "Seconds that a file must be as it is before it is read."
    parser.add_argument("--settle", type=float, default=0.1, help=text)
    text = "Seconds after its last change that a file is waited for that cannot be read as a photo."
    parser.add_argument("--give_up", type=float, default=5.0, help=text)
    text = (
        f"Seconds between two looks at the folder. Default: {POLL} on network shares; else the system tells of files."
    )
    parser.add_argument("--poll", type=float | None, help=text)
    add_verdicts(parser)
    settings = parse(parser, args)
    for name in ("settle", "give_up"):
        if not 0 <= settings[name] < float("inf"):
            raise SIVTError(f"{name} is {settings[name]}: give seconds, 0 or more.")
    if settings.poll is not None and not 0.001 <= settings.poll < 1e6:
        raise SIVTError(f"poll is {settings.poll}: give seconds, such as {POLL}.")
    if settings.webhook_queue < 1:
        raise SIVTError(f"webhook_queue is {settings.webhook_queue}: give 1 or more.")
    return settings


def run(args: Sequence[str]) -> int:
    """`sivt watch --model FILE --folder DIR --log FILE`, until it is told to end."""
    settings = parse_settings(args)
    folder = Path(settings.folder)
    if not folder.is_dir():
        raise SIVTError(f"folder {folder} is no folder: make it, or name another.")
    try:
        from sivt_lightning.watch.arrivals import is_share
        from sivt_lightning.watch.record import Record
        from sivt_lightning.watch.watcher import Asked, Watcher
        from sivt_lightning.watch.webhook import Webhook, check_url
        from sivt_lightning.watch.whole import ignore_lost_leases
    except ImportError as error:
        raise SIVTError("`sivt watch` needs more packages: pip install 'sivt-lightning[watch]'.") from error
    if settings.webhook is not None:
        check_url(settings.webhook)
    secret = _secret(settings)
    poll = POLL if settings.poll is None and is_share(folder) else settings.poll
    with ExitStack() as stack:
        # Before the model, which takes seconds: another process may have the log.
        record = Record(Path(settings.log), settings.webhook_queue if settings.webhook else 0)
        stack.callback(record.close)
        share_heap()
        predictor, ring = ready_predictor(settings.model, settings), None
        if settings.webhook is not None:
            webhook = Webhook(record, settings.webhook, secret)
            stack.callback(webhook.end)
            webhook.start()
            ring = webhook.ring
        asked = Asked(settings.settle, settings.give_up, settings.move, poll)
        watcher = Watcher(folder, predictor, record, asked, ring)
        ignore_lost_leases()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: watcher.end())
        print(f"Watching {folder} with {settings.model}, results in {settings.log}. Ctrl-C ends it.", flush=True)
        watcher.run()
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(watcher.counts.items()))
    print(f"Ended. Judged: {counts or 'none'}.")
    return 0


def _secret(settings: Any) -> str:
    """Of the webhook, where there is one."""
    if settings.webhook is None:
        return ""
    secret = find_secret(settings.webhook_secret_file, "webhook_secret_file", SECRET, "secret")
    if secret is None:
        raise SIVTError(
            f"webhook {settings.webhook}: what is sent is signed, so put a secret into the environment variable "
            f"{SECRET}, or name a file with --webhook_secret_file."
        )
    return secret
