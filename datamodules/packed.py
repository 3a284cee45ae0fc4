"""The micro-batches of an epoch, packed, of one rank; a resumed run takes up its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from datamodules.figures import log_figures
from datamodules.planning import Plan, runs
from datamodules.rows import Rows
from promptcot.batches import TokenBatch, pack
from promptcot.tokens import TokenSequence, Trainable

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


E = TypeVar("E", bound=Trainable)
B = TypeVar("B")
Collate = Callable[..., B]
"""Makes one batch of examples, followed by the denominator of each mean in its loss."""


class TrainingBatches(Generic[E, B]):
    """The rows of each epoch, in an order that seed and epoch decide.

    Its place in the data is the trainer's own: the epoch and the number of batches it has taken.
    Both are asked for when the first batch is, not before: Lightning makes the iterator of a
    resumed run before it has decided whether the epoch in the checkpoint was over.

    Args:
        rows: All of them.
        plan: Tells which make a step.
        trainer: Tells epoch, rank, micro-batches of a step, and batches taken.
        collate: Makes a micro-batch.
    """

    def __init__(self, rows: Rows[E], plan: Plan, trainer: Trainer, collate: Collate[B]) -> None:
        self.rows = rows
        self.plan = plan
        self.trainer = trainer
        self.collate = collate
        self._planned: tuple[tuple[int, int], list[list[int]]] = ((-1, 0), [])

    def __len__(self) -> int:
        return len(self._steps()) * self.trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[B]:
        accumulate = self.trainer.accumulate_grad_batches
        taken = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        rank = (self.trainer.global_rank, self.trainer.world_size)
        if not taken:
            self._log_sources()
        for number, step in enumerate(self._steps()[taken // accumulate :]):
            batches = micro_batches(self.rows, self.plan, step, accumulate, rank, self.collate)
            yield from islice(batches, taken % accumulate if number == 0 else 0, None)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: that there is one tells Lightning that the data can be resumed."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load: the place in the data is the trainer's."""

    def _steps(self) -> list[list[int]]:
        """Of the trainer's epoch, planned once."""
        parts = self.trainer.accumulate_grad_batches * self.trainer.world_size
        # a fit that is to overfit some batches has the same ones in every epoch
        is_overfit = self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        epoch = (0 if is_overfit else self.trainer.current_epoch, parts)
        if epoch != self._planned[0]:
            self._planned = (epoch, self.plan.steps(self.rows.lengths, *epoch))
        return self._planned[1]

    def _log_sources(self) -> None:
        """Rows and tokens of the epoch that begins, of each of several sources."""
        if len(self.plan.sources) > 1:
            epoch = self.trainer.current_epoch
            for source in self.plan.sources:
                rows = source.of_epoch(self.plan.seed, epoch)
                tokens = sum(int(self.rows.lengths[row]) for row in rows)
                targets = sum(self.rows.terms(row)[-1] for row in rows)
                counts = {"rows": len(rows), "tokens": tokens, "target_tokens": targets}
                log_figures(self.trainer, f"epoch/{source.name}", counts)


class EvaluationBatches:
    """Every row once, in micro-batches as large as those of training; as many of each rank.

    Args:
        examples: All sequences.
        plan: With the size of a step, and of a micro-batch where it has one.
        trainer: Tells rank, and micro-batches of a step.
    """

    def __init__(self, examples: Sequence[TokenSequence], plan: Plan, trainer: Trainer) -> None:
        ranks = trainer.world_size
        rows = plan.batch_size // (trainer.accumulate_grad_batches * ranks)
        rows = max(1, min(rows, -(-len(examples) // ranks)))  # some for every rank
        of_all = runs([len(example) for example in examples], rows, plan.token_budget)
        self.examples = examples
        self.batches: list[Sequence[int]] = [*of_all[trainer.global_rank :: ranks]]
        if len(self.batches) < -(-len(of_all) // ranks):
            self.batches.append([])

    @property
    def indices(self) -> list[int]:
        """Which examples this rank has, in the order of its batches."""
        return [index for batch in self.batches for index in batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[TokenBatch]:
        for batch in self.batches:
            mine = [self.examples[index] for index in batch]
            yield pack(mine or [self.examples[0].untargeted()])


def micro_batches(
    rows: Rows[E],
    plan: Plan,
    step: Sequence[int],
    accumulate: int,
    rank: tuple[int, int],
    collate: Collate[B],
) -> Iterator[B]:
    """What one rank does of one optimizer step, in ``accumulate`` micro-batches.

    Each carries the step's terms over all ranks, such as target tokens, divided by the number of
    micro-batches over all ranks, so that Lightning's means over both leave the mean over terms.
    """
    number, world_size = rank
    parts = accumulate * world_size
    terms = map(sum, zip(*(rows.terms(row) for row in step), strict=True))
    denominators = [count / parts for count in terms]
    for part in plan.micro_batches(step, rows.lengths, parts)[number::world_size]:
        # A rank with nothing to do runs a sequence without terms all the same, so that the
        # collectives of sharded weights meet on every rank.
        examples = [rows[row] for row in part] or [rows[step[0]].untargeted()]
        yield collate(examples, *denominators)
