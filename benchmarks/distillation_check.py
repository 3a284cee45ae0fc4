"""Is an exported folder what was trained? Trainer, transformers and vLLM on the same prompts.

    PYTHONPATH=. python benchmarks/distillation_check.py runs/distillation/full --vllm \
        --prompts runs/distillation/problems/held_out.jsonl

``ScoreAtEnd`` writes what the trainer makes of its first rows when the fit is over; here plain
transformers scores them again from the folder, in float32, and writes greedy text, with which that
of the project's vLLM engine is compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from promptcot.adapters import is_adapter
from promptcot.batches import pack
from promptcot.store import read_json, write_json

SCORED = "scored_at_end.json"
NUM_SCORED = 16
NUM_GREEDY = 16
MAX_TOKENS = 64


class ScoreAtEnd(Callback):
    """Writes ``<default_root_dir>/scored_at_end.json``: rows and their log-probabilities."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rows = trainer.datamodule.examples[:NUM_SCORED]  # type: ignore[attr-defined]
        policy: Any = pl_module.policy
        policy.eval()
        found = []
        with torch.no_grad():  # outside the trainer's precision: in the weights' own
            for row in rows:
                logprobs = policy(pack([row]).to(pl_module.device))
                found.append(
                    {"tokens": row.tokens, "spans": row.spans, "logprobs": logprobs.tolist()}
                )
        write_json(Path(trainer.default_root_dir) / SCORED, found)


def main(arguments: list[str]) -> None:
    """Compare, and write ``compared.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the fit")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--kv-gib", type=float, default=4)
    given = parser.parse_args(arguments)
    found = compared_logprobs(given.folder)
    lines = given.prompts.read_text(encoding="utf-8").splitlines()[:NUM_GREEDY]
    statements = [json.loads(line)["statement"] for line in lines]
    if given.vllm:
        found |= compared_text(given.folder / "weights", statements, given.kv_gib)
    write_json(given.folder / "compared.json", found)
    sys.stderr.write(f"{json.dumps(found)}\n")


def load(weights: Path, dtype: torch.dtype = torch.float32) -> Any:  # noqa: ANN401
    """The folder, as transformers and PEFT load it."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    kind = AutoPeftModelForCausalLM if is_adapter(str(weights)) else AutoModelForCausalLM
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return kind.from_pretrained(weights, dtype=dtype).to(device).eval()


def compared_logprobs(folder: Path) -> dict[str, float]:
    """Largest and mean difference in nats a token between trainer and transformers."""
    model = load(folder / "weights")
    differences: list[float] = []
    for row in read_json(folder / SCORED):  # type: ignore[attr-defined]
        tokens = torch.tensor([row["tokens"]], device=model.device)
        with torch.no_grad():
            table = model(tokens).logits[0].log_softmax(-1)
        places = [place for start, end in row["spans"] for place in range(start, end)]
        here = [float(table[place - 1, row["tokens"][place]]) for place in places]
        differences += [abs(a - b) for a, b in zip(here, row["logprobs"], strict=True)]
    return {
        "tokens": len(differences),
        "largest_difference": max(differences),
        "mean_difference": sum(differences) / len(differences),
    }


def compared_text(weights: Path, statements: list[str], kv_gib: float) -> dict[str, Any]:
    """How many greedy texts of vLLM are those of transformers, both in the same precision.

    That is float32, or on a GPU bfloat16 for an adapter, which vLLM applies in no other there.
    """
    from distillation_teacher import prompt_of
    from transformers import AutoTokenizer

    from promptcot.engines import VLLMEngine
    from promptcot.protocols import Request, Sampling
    from promptcot.tokens import in_chat

    prompts = [prompt_of(statement) for statement in statements]
    tokenizer = AutoTokenizer.from_pretrained(weights)
    is_half = is_adapter(str(weights)) and torch.cuda.is_available()
    dtype = torch.bfloat16 if is_half else torch.float32
    model = load(weights, dtype)
    plain = []
    for prompt in prompts:
        tokens = torch.tensor([in_chat(tokenizer, prompt)], device=model.device)
        made = model.generate(tokens, do_sample=False, max_new_tokens=MAX_TOKENS)
        plain.append(tokenizer.decode(made[0, tokens.shape[1] :], skip_special_tokens=True))
    del model
    options = {"max_model_len": 1024, "kv_cache_memory_bytes": int(kv_gib * (1 << 30))}
    name = str(dtype).removeprefix("torch.")
    engine = VLLMEngine(str(weights), dtype=name, chat=True, options=options)
    try:
        requests = [Request(prompt) for prompt in prompts]
        sampling = Sampling(temperature=0.0, max_tokens=MAX_TOKENS)
        texts = {index: c.text for index, [c] in engine.generate(requests, sampling)}
    finally:
        engine.close()
    equal = [texts[number] == text for number, text in enumerate(plain)]
    first = next((n for n, same in enumerate(equal) if not same), 0)
    return {
        "dtype": name,
        "texts": len(equal),
        "equal_texts": sum(equal),
        "example": [plain[first], texts[first]],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
