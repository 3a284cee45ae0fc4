"""The one entry point of the project.

    python cli.py em --config configs/em.yaml                          the whole loop
    python cli.py fit --config configs/m_step.yaml                     one training
    python cli.py make rationales --config configs/make/rationales.yaml    one round of rows

``em`` and ``make`` are light: they are dispatched before Lightning is imported. A mistake of the
user's ends with a sentence and status 2; set PROMPTCOT_TRACEBACK=1 to see where it was found.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COMMANDS = """usage: python cli.py COMMAND [--config FILE.yaml ...] [--KEY VALUE ...]

  em         cold start, rounds of E-step and M-step, held-out figures, new problems
  make       one round of rows: annotate, rationales, rollouts, compose, held_out,
             label, self_play, evaluate, distill
  verify     rows in, verdicts out: are answers and programs right?
  fit        train by Lightning: EStepModule, MStepModule, DPOModule or SFTModule
  validate   the loss on other rows
  test       the same, once training is over
  predict    log-probabilities of rows

python cli.py COMMAND --help tells the keys of each; a key of a YAML file is a flag as well.
"""

EXPECTED_WARNINGS = (
    r".*does not have many workers",  # packing takes no time
    r"Total length of .tuple. across ranks is zero",  # a fit may go without held-out rows
    r".*number of training batches.*is smaller than the logging interval",
    r".*isinstance.treespec",  # Lightning's own use of torch
    r"Since DeepSpeed handles gradient clipping internally",  # and nobody else has to
)
"""Lightning's, about what is meant to be as it is."""
QUIET_LOGGERS = ("lightning.pytorch", "lightning.fabric")
"""They would advertise, and list the accelerators that are not there."""


def main(args: Sequence[str]) -> None:
    """Run one command."""
    from promptcot.children import PARENT, die_with_parent

    if "TORCHELASTIC_RUN_ID" in os.environ:
        os.environ[PARENT] = str(os.getppid())  # torchrun's agent
    die_with_parent()
    # where it is installed, transformers imports it, and on a CPU it would say so to stdout
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno > logging.WARNING)
    # New memory pages are dear on virtual machines: torch on the CPU asks for huge ones.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    match args:
        case [] | ["-h" | "--help", *_]:
            sys.stdout.write(COMMANDS)
        case ["make", *rest]:
            from promptcot.command_line import make_command

            make_command(rest)
        case ["em", *rest]:
            from promptcot.command_line import em_command

            em_command(rest, Path(__file__).resolve())
        case ["verify", *rest]:
            verify(rest)
        case _:
            train()


def verify(args: Sequence[str]) -> None:
    """``cli.py verify``: verify the rows of a file."""
    from promptcot.command_line import Parser
    from verify.rows import verify_rows

    parser = Parser(prog="cli.py verify", description=verify_rows.__doc__)
    parser.add_function_arguments(verify_rows, as_positional=False)
    sys.stderr.write(verify_rows(**parser.parse_args(list(args)).as_dict()) + "\n")


def train() -> Any:  # noqa: ANN401
    """Build trainer, module and data from YAML and flags, and run Lightning's subcommand.

    Reads ``sys.argv``, and leaves it alone: with it Lightning starts the other ranks.
    """
    from lightning.pytorch import LightningDataModule, LightningModule

    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for room in ("callbacks", "datamodules", "modules"):  # so that their short names work
        importlib.import_module(room)
    importlib.import_module("modules.strategies").register()
    return cli_class()(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=42,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
    )


def cli_class() -> type[Any]:
    """Lightning's command line with our errors, callbacks that add up, and fits that go on."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.cli import LightningArgumentParser

    from modules.checkpoints import check_checkpoint
    from modules.launching import end_together
    from modules.memory import CuresCLI
    from modules.strategies import check_strategy
    from promptcot.command_line import AddingConfigFile, HelpfulErrors

    class Parser(HelpfulErrors, LightningArgumentParser):
        """Lightning's, with our errors."""

    class CLI(CuresCLI):
        def init_parser(self, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401
            parser = Parser(**kwargs)
            parser.add_argument("-c", "--config", action=AddingConfigFile, help="A YAML file.")
            return parser

        def _parse_ckpt_path(self) -> None:
            """A checkpoint's own settings must not override the given ones without a word."""

        def before_instantiate_classes(self) -> None:
            chosen = self.config[self.config.subcommand].trainer.strategy
            check_strategy(chosen if isinstance(chosen, str) else chosen.class_path)

        def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401
            trainer = super().instantiate_trainer(**kwargs)
            end_together(trainer)
            return trainer

        def before_fit(self) -> None:
            self._dump_config()
            found = interrupted(self.trainer, self.config_dump, self.resources)
            path = found or self.config_init.fit.ckpt_path
            if path is not None:
                check_checkpoint(Path(path), self.trainer.strategy, self.trainer.world_size)
            if found is not None:
                sys.stderr.write(f"going on with the interrupted fit, from {found}\n")
                self.config_init.fit.ckpt_path = found

        resources = contextlib.ExitStack()
        """Held until the process ends: the lock of the folder."""

    return CLI


def interrupted(
    trainer: Any,  # noqa: ANN401
    config: Mapping[str, Any],
    resources: contextlib.ExitStack,
) -> Path | None:
    """The checkpoint of an interrupted fit with this configuration, where progress is saved.

    From then on nobody else can train in its folder.
    """
    from callbacks import SaveProgress
    from promptcot.locks import folder_lock

    savers = [callback for callback in trainer.callbacks if isinstance(callback, SaveProgress)]
    if not savers or trainer.fast_dev_run:  # a trial is no part of it
        return None
    root = Path(trainer.default_root_dir)
    if trainer.global_rank == 0:
        resources.enter_context(folder_lock(root))
    return savers[0].resume(root, config)


def is_users(error: Exception) -> bool:
    """Whether an error is told in a sentence: a mistake in the input, or a machine's failure."""
    names = {"MisconfigurationException", "SafetensorError", "YAMLError"}  # of heavy libraries
    told = isinstance(error, ValueError | OSError | ImportError | RuntimeError)
    return told or any(base.__name__ in names for base in type(error).__mro__)


def run(args: Sequence[str]) -> int:
    """Run one command; the status to exit with."""
    try:
        main(args)
    except Exception as error:
        if os.environ.get("PROMPTCOT_TRACEBACK") or not is_users(error):
            raise
        if type(error).__name__ != "ToldByRank0":
            sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: the same command goes on where this one was\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
