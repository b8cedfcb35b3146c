"""The inside of LightningCLI, all that is used of it, as in Lightning 2.6: its hooks, parsers and settings."""

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from sivt_lightning.cli.arguments import help_settings
from sivt_lightning.cli.help import OPTIONS
from sivt_lightning.cli.parser_inside import options_in


class HookedCLI(LightningCLI):
    """LightningCLI with the words of `HELP`, with options of each command's own, and for safe checkpoints alone."""

    def add_own_arguments(self, verb: str, parser: LightningArgumentParser) -> None:
        """Options of a command beside those of module, data and Trainer."""
        raise NotImplementedError

    def parser_of(self, verb: str) -> LightningArgumentParser:
        """That of the command that is given."""
        return self._subcommand_parsers[verb]

    def setting(self, config: Any, name: str) -> Any:
        """That of the command that is given, in a config of all commands."""
        return self._get(config, name)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs | help_settings(subcommand))
        for option in options_in(parser):
            option.help = next((OPTIONS[name] for name in option.option_strings if name in OPTIONS), option.help)
        self.add_own_arguments(subcommand, parser)
        return parser

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return super()._prepare_subcommand_kwargs(subcommand) | {"weights_only": True}

    def _parse_ckpt_path(self) -> None:
        """LightningCLI's own reading of the checkpoint would win over flags given by hand."""
