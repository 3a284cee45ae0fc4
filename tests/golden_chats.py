"""Conversations as transformers encodes and marks them; run this to write promptcot/golden anew.

    python tests/golden_chats.py

It uses transformers and the templates that TRL carries, and nothing of this project: what it
writes is an opinion of somebody else. A file lists, for each conversation, runs of tokens that
are trained on or not, by the template's ``{% generation %}`` marks.
"""

from __future__ import annotations

import json
import re
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

GOLDEN = Path(__file__).parent / "promptcot" / "golden"
EMBEDDED = Path(__file__).parents[1] / "models" / "smollm2-135m-instruct"
CONTROLS = {
    "llama3": ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
    "deepseek_r1_distill": ["<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"],  # noqa: RUF001
    "gemma": ["<end_of_turn>", "<start_of_turn>"],
}
"""Control tokens that a template needs and the embedded model's tokenizer has not; the first ends
a turn."""
MARKED = {"chatml": "qwen2_5_training", "llama3": "llama3_training", "embedded": ""}
"""Of each golden file, the template with marks."""
USER, ASSISTANT, SYSTEM = (
    partial(lambda r, c: {"role": r, "content": c}, r) for r in ("user", "assistant", "system")
)
CONVERSATIONS = {
    "single turn": [USER("What is 2 + 2?"), ASSISTANT("It is 4.")],
    "system": [SYSTEM("Be brief."), USER("Name a prime above 10."), ASSISTANT("11")],
    "three turns": [
        USER("x^2 = 9?"),
        ASSISTANT("x = 3 or x = -3."),
        USER("And x > 0?"),
        ASSISTANT("x = 3."),
        USER("Sure?"),
        ASSISTANT("Yes, since 3 > 0."),
    ],
    "space behind": [USER("why? "), ASSISTANT("because \n\n"), USER("ok"), ASSISTANT("yes\t")],
    "unicode": [USER("Größe von ∑ 1/n²?"), ASSISTANT("π²/6 ≈ 1,645 — 好 🙂")],
    "code block": [
        USER("Print it."),
        ASSISTANT("```python\nfor i in range(3):\n    print(i)\n```\nDone."),
    ],
    "thought": [USER("2 * 3?"), ASSISTANT("<think>\n3 + 3\n</think>\n\n\\boxed{6}")],
}


def template(name: str) -> str:
    """One that TRL carries."""
    [folder] = find_spec("trl").submodule_search_locations
    return (Path(folder) / "chat_templates" / f"{name}.jinja").read_text("utf-8")


def tokenizer_with(name: str, text: str | None = None) -> PreTrainedTokenizerBase:
    """The embedded model's tokenizer with a template of TRL's; an empty name for its own."""
    found = AutoTokenizer.from_pretrained(EMBEDDED)
    if name:
        controls = CONTROLS.get(name.removesuffix("_training"), [])
        if controls:
            found.add_special_tokens({"additional_special_tokens": controls})
            found.eos_token = controls[0]
        found.chat_template = text or template(name)
    return found


def own_with_marks(text: str) -> str:
    """The embedded model's template with marks around what the assistant says and its end."""
    says = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    words = says + "'\\n'}}"
    flat = text.replace("\n", "\\n")
    assert words in flat
    return flat.replace(
        words,
        "{{'<|im_start|>' + message['role'] + '\\n'}}"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}"
        "{% else %}{{message['content'] + '<|im_end|>'}}{% endif %}{{'\\n'}}",
    )


def runs(tokenizer: PreTrainedTokenizerBase, ids: list[int], mask: list[int]) -> list[dict]:
    found = []
    for trained, group in groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1]):
        part = [token for token, _ in group]
        found.append(
            {
                "trained": bool(trained),
                "ids": part,
                "tokens": [tokenizer.decode([token]) for token in part],
            }
        )
    return found


def golden(name: str) -> dict[str, list[dict]]:
    tokenizer = tokenizer_with(MARKED[name])
    if not MARKED[name]:
        tokenizer.chat_template = own_with_marks(tokenizer.chat_template)
    found = {}
    for title, messages in CONVERSATIONS.items():
        encoded = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        found[title] = runs(tokenizer, encoded["input_ids"], encoded["assistant_masks"])
    return found


def written(content: dict[str, list[dict]]) -> str:
    """JSON, a list of tokens on one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return re.sub(r"\[\n\s+[^\[\]{}]*?\n\s+\](?=[,\n])", _one_line, text) + "\n"


def _one_line(found: re.Match[str]) -> str:
    try:
        return json.dumps(json.loads(found[0]), ensure_ascii=False)
    except ValueError:  # brackets within a token
        return found[0]


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for title in MARKED:
        (GOLDEN / f"{title}.json").write_text(written(golden(title)), "utf-8")
