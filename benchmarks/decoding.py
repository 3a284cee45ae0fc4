"""Tokens a second of the transformers engine, sampling on this machine.

PYTHONPATH=. python benchmarks/decoding.py models/smollm2-135m-instruct
"""
# ruff: noqa: T201 -- what it measures goes to the terminal.

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHECKOUT = Path(__file__).parents[1]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", help="folder or hub name of the model")
    parser.add_argument("--prompts", type=int, default=16, help="prompts in the one batch")
    parser.add_argument("--prompt-tokens", type=int, default=150, help="longest prompt")
    parser.add_argument("--n", type=int, default=4, help="completions of each prompt")
    parser.add_argument("--max-tokens", type=int, default=256, help="limit of a completion")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs, after a short first")
    return parser.parse_args()


def _cut(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    return str(tokenizer.decode(tokenizer(text).input_ids[:limit]))


def main() -> None:
    """Print one line a run, then the best."""
    arguments = parse_arguments()
    sys.path.insert(0, str(CHECKOUT))
    from promptcot.corpora import Corpus, read_corpus
    from promptcot.engines import HFEngine
    from promptcot.prompts import PromptFormat
    from promptcot.protocols import Request, Sampling

    format = PromptFormat()
    problems = read_corpus(Corpus(limit=arguments.prompts)).problems
    engine = HFEngine(
        arguments.weights, arguments.dtype, arguments.device, batch_size=len(problems)
    )
    texts = [
        _cut(engine.tokenizer, format.rationale_prompt(p), arguments.prompt_tokens)
        for p in problems
    ]
    requests = [Request(text, seed) for seed, text in enumerate(texts)]
    widths = [len(engine.tokenizer(r.prompt).input_ids) for r in requests]
    print(
        f"{len(requests)} prompts of {min(widths)} to {max(widths)} tokens, n={arguments.n}, "
        f"{arguments.dtype} on {engine.scorer.lm.device}"
    )
    shape = arguments.n, arguments.temperature, arguments.top_p
    list(engine.generate(requests, Sampling(*shape, max_tokens=4)))
    speeds = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        results = dict(engine.generate(requests, Sampling(*shape, arguments.max_tokens)))
        seconds = time.perf_counter() - start
        completions = [c for row in results.values() for c in row]
        tokens = sum(len(c.logprobs) for c in completions)
        finished = sum(c.finished for c in completions)
        speeds.append(tokens / seconds)
        print(
            f"{tokens} tokens ({finished} of {len(completions)} completions ended) in "
            f"{seconds:.2f} s: {speeds[-1]:.0f} tokens/s"
        )
    print(f"best: {max(speeds):.0f} tokens/s")


if __name__ == "__main__":
    main()
