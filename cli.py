"""The one entry point: ``python cli.py fit --config configs/m_step.yaml``.

Lightning's own subcommands fit, validate, test and predict. A mistake of the user's ends with a
sentence and status 2; set PROMPTCOT_TRACEBACK=1 to see where it was found.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from typing import Any, NoReturn


def train(args: list[str] | None = None, run: bool = True) -> Any:  # noqa: ANN401
    """Build trainer, module and data from YAML and flags, and run the subcommand."""
    import jsonargparse
    from lightning.pytorch import LightningDataModule, LightningModule
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    for room in ("callbacks", "datamodules", "modules"):  # so that their short names work
        importlib.import_module(room)

    class Parser(LightningArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            super().error(message + suggestion(message), ex)

    class CLI(LightningCLI):
        def init_parser(self, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401
            parser = Parser(**kwargs)
            action = jsonargparse.ActionConfigFile  # type: ignore[attr-defined]
            parser.add_argument("-c", "--config", action=action, help="A YAML file.")
            return parser

        def _parse_ckpt_path(self) -> None:
            """A checkpoint's own settings must not override the given ones without a word."""

    return CLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=42,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        args=args,
        run=run,
    )


def suggestion(message: str) -> str:
    """The nearest known key for a message about an unknown one; empty where there is none."""
    unknown = re.search(
        r"(?:Key|Option) ['\"](?:[\w.]*\.)?(\w+)['\"] is not (?:expected|accepted)", message
    )
    if unknown is None:
        return ""
    known = {
        "weights",
        "optimizer",
        "gradient_checkpointing",
        "corpus",
        "batch_size",
        "max_tokens",
        "seed",
        "format",
        "class_path",
        "init_args",
        "max_epochs",
        "max_steps",
        "accelerator",
        "devices",
        "strategy",
        "precision",
        "callbacks",
        "logger",
        "default_root_dir",
        "accumulate_grad_batches",
        "gradient_clip_val",
        "model",
        "data",
        "trainer",
        "lr",
    }
    near = difflib.get_close_matches(unknown[1], known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def main() -> None:
    """Run the command line."""
    try:
        train()
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("PROMPTCOT_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
