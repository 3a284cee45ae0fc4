"""What one rank of several does for all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch.distributed as dist

from promptcot.children import ToldByRank0


def on_rank_0(
    failed: str, work: Callable[[], object], group: dist.ProcessGroup | None = None
) -> None:
    """Do something on rank 0 alone; its failure is one error of every rank, which all must call.

    Args:
        failed: What is then to be said, before the reason.
        work: Calls nothing that the ranks do together.
        group: Where the others wait meanwhile; None is the group of all.

    Raises:
        RuntimeError: It failed.
    """
    several = dist.is_available() and dist.is_initialized()
    failure = [""]
    cause: Exception | None = None
    if not several or dist.get_rank() == 0:
        try:
            work()
        except Exception as error:
            failure, cause = [f"{failed}: {type(error).__name__}: {error}"], error
    if several:  # the others wait for this, and must learn of a failure
        dist.broadcast_object_list(failure, src=0, group=group)
    if cause is not None:
        raise RuntimeError(failure[0]) from cause
    if failure[0]:
        raise ToldByRank0(failure[0])
