"""The micro-batches of an epoch, packed, of one rank; a resumed run takes up its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from datamodules.planning import plan_epoch, share
from promptcot.batches import TokenBatch, pack
from promptcot.chunks import chunks
from promptcot.tokens import Example, Trainable

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


E = TypeVar("E", bound=Trainable)
B = TypeVar("B")
Collate = Callable[..., B]
"""Makes one batch of examples, followed by the denominator of each mean in its loss."""


class TrainingBatches(Generic[E, B]):
    """Every row once an epoch, in an order that seed and epoch decide.

    Its place in the data is the trainer's own: the epoch and the number of batches it has taken.
    Both are asked for when the first batch is, not before: Lightning makes the iterator of a
    resumed run before it has decided whether the epoch in the checkpoint was over.

    Args:
        examples: All sequences.
        batch_size: Sequences in one optimizer step, over all ranks and micro-batches.
        seed: Of the order.
        trainer: Tells epoch, rank, micro-batches of a step, and batches taken.
        collate: Makes a micro-batch.
    """

    def __init__(
        self,
        examples: Sequence[E],
        batch_size: int,
        seed: int,
        trainer: Trainer,
        collate: Collate[B],
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.trainer = trainer
        self.collate = collate

    def __len__(self) -> int:
        steps = -(-len(self.examples) // self.batch_size)
        return steps * self.trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[B]:
        accumulate = self.trainer.accumulate_grad_batches
        taken = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        steps = plan_epoch(
            len(self.examples), self.batch_size, seed=self.seed, epoch=self.trainer.current_epoch
        )
        rank = (self.trainer.global_rank, self.trainer.world_size)
        for number, step in enumerate(steps[taken // accumulate :]):
            batches = micro_batches(self.examples, step, accumulate, rank, self.collate)
            yield from batches[taken % accumulate if number == 0 else 0 :]

    def state_dict(self) -> dict[str, Any]:
        """Nothing: that there is one tells Lightning that the data can be resumed."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load: the place in the data is the trainer's."""


class EvaluationBatches:
    """Every row once, in order; each rank has as many batches as the others.

    Args:
        examples: All sequences.
        batch_size: Sequences in one batch, over all ranks.
        rank: This rank and the number of ranks.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, rank: tuple[int, int]) -> None:
        number, world_size = rank
        self.examples = examples
        self.batches = [batch[number::world_size] for batch in chunks(len(examples), batch_size)]

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
    examples: Sequence[E],
    step: Sequence[int],
    accumulate: int,
    rank: tuple[int, int],
    collate: Collate[B],
) -> list[B]:
    """What one rank does of one optimizer step, in ``accumulate`` micro-batches.

    Each carries the step's terms over all ranks, such as target tokens, divided by the number of
    micro-batches over all ranks, so that Lightning's means over both leave the mean over terms.
    """
    number, world_size = rank
    parts = accumulate * world_size
    lengths = {index: len(examples[index]) for index in step}
    terms = map(sum, zip(*(examples[index].terms for index in step), strict=True))
    denominators = [count / parts for count in terms]
    mine = share(step, lengths, parts)[number::world_size]
    # A rank with nothing to do runs a sequence without terms all the same, so that the
    # collectives of sharded weights meet on every rank.
    idle = [examples[step[0]].untargeted()]
    return [collate([examples[i] for i in part] or idle, *denominators) for part in mine]
