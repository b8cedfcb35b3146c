"""`sivt demo-data`."""

from collections.abc import Sequence
from pathlib import Path

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.data.demo import Difficulty, write_demo_data


def run(args: Sequence[str]) -> int:
    """`sivt demo-data DIR`."""
    parser = verb_parser("demo-data")
    parser.add_argument("folder", type=str, help="New or empty folder to write to.")
    parser.add_argument("--seed", type=int, default=0, help="Another seed gives other images.")
    text = "How faint the defects are, and how much light and noise vary; hard adds large photos with small defects."
    parser.add_argument("--difficulty", type=Difficulty, default="normal", help=text)
    settings = parse(parser, args)
    write_demo_data(Path(settings.folder), settings.seed, settings.difficulty)
    print(f"Wrote {settings.folder}. Next:\n  sivt fit --config demo --data.root {settings.folder}")
    return 0
