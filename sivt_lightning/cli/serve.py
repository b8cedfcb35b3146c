"""`sivt serve`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.cli.verdict_options import add_model, add_verdicts, ready_predictor
from sivt_lightning.errors import SIVTError
from sivt_lightning.serve.place import TOKEN, find_token, is_loopback, listening
from sivt_lightning.system import share_heap

if TYPE_CHECKING:
    from sivt_lightning.state.kept_parts import KeptParts

NONE = "none"


def run(args: Sequence[str]) -> int:
    """`sivt serve --model FILE --port P`, until it is told to end; what it has taken by then is answered."""
    settings = parse_settings(args)
    token = find_token(settings.token_file)
    if token is None and not is_loopback(settings.host):
        raise SIVTError(
            f"host {settings.host} can be reached by others, so a token is needed: put it into the environment "
            f"variable {TOKEN} or name a file with --token_file."
        )
    try:
        from sivt_lightning.serve.app import Limits, build_app
        from sivt_lightning.serve.cors import check_origins
        from sivt_lightning.serve.host_names import check_names
        from sivt_lightning.serve.server import UNREAD, serve
    except ImportError as error:
        raise SIVTError("`sivt serve` needs more packages: pip install 'sivt-lightning[serve]'.") from error
    origins, names = check_origins(settings.cors_origin), check_names(settings.host_name)
    place = listening(settings.host, settings.port)
    share_heap()
    with place:
        predictor = ready_predictor(settings.model, settings)
        shadow = None if settings.shadow is None else ready_predictor(settings.shadow, settings)
        kept = _kept(settings)  # not before the model, beside which it may lie, is known to be there
        memory = None if settings.max_memory is None else settings.max_memory * 1_000_000
        limits = Limits(settings.max_bytes, settings.max_pixels, settings.max_requests, settings.max_batch, memory)
        app = build_app(predictor, limits, token, origins, shadow, kept, names)
        place.listen()  # from now on whoever comes waits, instead of being refused
        print(
            f"Serving {settings.model} on http://{settings.host}:{place.getsockname()[1]}. Ctrl-C ends it.", flush=True
        )
        ended = serve(app, place)
    if ended.at_once:
        print("Ended at once; requests that were waiting have no verdict.")
        return 1
    if ended.unread:
        reason = f"but {ended.unread} of the clients did not read their answers within {UNREAD:g} s."
        print(f"Ended; every request that was taken has its verdict, {reason}")
        return 0
    print("Ended; every request that was taken has been answered.")
    return 0


def _kept(settings: Any) -> "KeptParts | None":
    """Where parts are kept. Raises SIVTError where that cannot be and was asked for; else it goes without."""
    from sivt_lightning.serve.log import note
    from sivt_lightning.state.kept_parts import KeptParts

    if settings.state == NONE:
        return None
    model = Path(settings.model)
    try:
        return KeptParts(Path(settings.state or model.with_name(f"{model.stem}-state")))
    except SIVTError as error:
        if settings.state:
            raise
        note("warning", f"No parts are kept. {error}")
        return None


def parse_settings(args: Sequence[str]) -> Any:
    """From flags. Raises SIVTError for limits that leave nothing to be taken."""
    parser = verb_parser("serve")
    add_model(parser)
    text = "Another model that is asked the same, after the answer: /v1/shadow says what it judges otherwise."
    parser.add_argument("--shadow", type=str | None, help=text)
    parser.add_argument("--host", type=str, default="127.0.0.1", help="Address to listen on; others need a token.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one.")
    text = f"File that holds the token that requests must send. Default: the environment variable {TOKEN}."
    parser.add_argument("--token_file", type=str | None, help=text)
    text = "Folder that keeps the last 100 parts and what people say of them, or none. Default: beside the model."
    parser.add_argument("--state", type=str | None, help=text)
    add_verdicts(parser)
    parser.add_argument("--max_batch", type=int, default=8, help="Images computed at a time.")
    parser.add_argument("--max_requests", type=int, default=64, help="Requests taken at a time; more get 503.")
    parser.add_argument("--max_bytes", type=int, default=32_000_000, help="Of an image's file; larger ones get 413.")
    parser.add_argument("--max_pixels", type=int, default=50_000_000, help="Of an image; larger ones get 400.")
    text = "Of uploads and decoded images together, in MB. Default: enough for four of the largest files and one image."
    parser.add_argument("--max_memory", type=int | None, help=text)
    text = "Place of a web page, such as https://line.example, whose scripts may ask, too; several may follow."
    parser.add_argument("--cors_origin", type=str, nargs="+", default=[], metavar="ORIGIN", help=text)
    text = "Name, such as line.example, by which this machine is asked, too, where no token is; several may follow."
    parser.add_argument("--host_name", type=str, nargs="+", default=[], metavar="NAME", help=text)
    settings = parse(parser, args)
    for name in ("max_batch", "max_requests", "max_bytes", "max_pixels", "max_memory"):
        if settings[name] is not None and settings[name] < 1:
            raise SIVTError(f"{name} is {settings[name]}: give 1 or more.")
    return settings
