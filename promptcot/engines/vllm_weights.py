"""The weights inside vLLM's process: replaced in place, put to sleep, or changed by an adapter."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from promptcot.adapters import adapter_rank, adapter_settings, base_of, is_adapter

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

MAX_RANKS = (8, 16, 32, 64, 128, 256, 512)
"""The limits of an adapter's rank that vLLM knows."""
HEADS = frozenset({"lm_head", "embed_tokens"})
RESTORED, DROPPED = 1, 2
"""Levels of sleep: weights kept in the machine's memory, or not at all."""


def lora_arguments(weights: str) -> dict[str, Any]:
    """What ``vllm.LLM`` needs to know of an adapter before it loads the base; nothing of a model.

    Raises:
        ValueError: vLLM cannot apply an adapter of this kind.
    """
    if not is_adapter(weights):
        return {}
    settings = adapter_settings(weights)
    # With an adapter on the head, vLLM would score prompts with other rows' adapters.
    head = [name for name in settings.get("target_modules") or () if name in HEADS]
    if modules := [*(settings.get("modules_to_save") or ()), *head]:
        raise ValueError(
            f"the adapter {weights} changes {', '.join(modules)}, which vLLM cannot load, or not "
            "score with: choose HFEngine, or merge it into its base"
        )
    if settings.get("use_dora"):
        raise ValueError(
            f"the adapter {weights} is a DoRA, which vLLM cannot apply: choose HFEngine, or have "
            "the fit export it merged (callbacks.ExportWeights with merge: true)"
        )
    rank = adapter_rank(weights)
    if rank > MAX_RANKS[-1]:
        raise ValueError(
            f"the adapter {weights} has rank {rank}, vLLM takes {MAX_RANKS[-1]} at most: "
            "choose HFEngine, or merge it into its base"
        )
    limit = next(limit for limit in MAX_RANKS if limit >= rank)
    return {"enable_lora": True, "max_lora_rank": limit, "max_loras": 1}


class LoadedWeights:
    """What vLLM computes with.

    Args:
        llm: Has loaded ``base_of(weights)``.
        weights: Of a model or an adapter.
        sleep_level: ``RESTORED`` for an engine with adapters, whose base need not be read again;
            else ``DROPPED``. 0 where nothing can be freed.
    """

    def __init__(self, llm: LLM, weights: str, sleep_level: int) -> None:
        self.llm = llm
        self.has_adapters = is_adapter(weights)
        self.sleep_level = sleep_level
        self.asleep = False
        self.numbers = count(1)
        self.adapter: LoRARequest | None = None
        """What every request must be given along."""
        self._apply(weights)

    def reload(self, weights: str) -> None:
        """Take other weights of the same architecture, awake or asleep."""
        dropped = self.asleep and self.sleep_level == DROPPED
        if self.asleep:
            self.llm.wake_up(tags=["weights"])
        # with adapters the base stays as it was opened: older vLLM cannot read it in place there
        if dropped or not (self.has_adapters or is_adapter(weights)):
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": base_of(weights)})
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
        self.asleep = False
        self._apply(weights)
        self.llm.reset_prefix_cache()

    def sleep(self) -> None:
        """Free the GPU's memory, where that is possible, until the next ``reload``."""
        if self.sleep_level:
            self.llm.sleep(level=self.sleep_level)
            self.asleep = True

    def _apply(self, weights: str) -> None:
        """Use the adapter in a folder under a name that was never used: no cache knows it."""
        if self.adapter is not None:
            self.llm.llm_engine.remove_lora(self.adapter.lora_int_id)
            self.adapter = None
        if is_adapter(weights):
            from vllm.lora.request import LoRARequest

            number = next(self.numbers)
            self.adapter = LoRARequest(f"adapter-{number}", number, weights)
            self.llm.llm_engine.add_lora(self.adapter)  # an error shows here, not in a request
