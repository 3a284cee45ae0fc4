"""Supervised fine-tuning: each step against plain transformers, planted bugs, bad rows named."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from quiet_fit import fit, plain_logprobs, quiet_trainer
from tiny import save_tiny_chat_model
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from datamodules import SolutionDataModule
from datamodules.supervised import Weighted
from modules import Schedule, SFTModule
from modules.adapters import LoRA
from promptcot.batches import pack, pad
from promptcot.corpora import Corpus
from promptcot.likelihood import TargetLogprobs, load_causal_lm
from promptcot.turns import Turns, joined

RATE = 0.05
SGD = partial(torch.optim.SGD, lr=RATE)
PAIRS = [
    ("1 + 1?", "it is 2"),
    ("why?", "because"),
    ("how many primes below 10?", "4"),
    ("name one", "b"),
    ("the last?", "yes, this"),
]
TALKS = [  # user and assistant in turns
    ["hi", "a"],
    ["x^2 = 9?", "3 or -3, as you see", "sure?", "yes"],
    ["one", "b", "two", "a much longer answer than all of the others are", "three", "c"],
    ["a question that is long itself, whatever is said to it", "no"],
    ["q", "x" * 60],
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    return save_tiny_chat_model(tmp_path_factory.mktemp("chat"))


def written(folder, rows, name="s"):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus(str(path))


def parameters(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def messages(talk):
    return [{"role": ("user", "assistant")[n % 2], "content": c} for n, c in enumerate(talk)]


def by_hand(talk):
    """Ids and labels, -100 where nothing is learned, letter by letter."""
    ids, labels = [], []
    for n, said in enumerate(talk):
        head, words = [*map(ord, "ua"[n % 2] + ":")], [*map(ord, said), 0]
        ids += [*head, *words, 10]
        labels += [-100, -100, *(words if n % 2 else [-100] * len(words)), -100]
    return ids, labels


DOCUMENTS = [by_hand(talk) for talk in TALKS]


def turns_of(ids, labels):
    found = joined([((token,), label >= 0) for token, label in zip(ids, labels, strict=True)])
    return found


def plain(model):
    """Mean loss and gradient by transformers, one document alone after the other."""
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    count = sum(label >= 0 for _, labels in DOCUMENTS for label in labels)
    total = 0.0
    for ids, labels in DOCUMENTS:
        logits = lm(torch.tensor([ids])).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels[1:]), ignore_index=-100, reduction="sum"
        )
        (loss / count).backward()
        total += float(loss.detach()) / count
    return total, torch.cat([p.grad.flatten() for p in lm.parameters()])


def ours(model, *batches):
    scorer = TargetLogprobs(load_causal_lm(str(model), torch.float32)).train()
    total = 0.0
    for batch in batches:
        loss = -scorer(batch).sum() / batch.denominator / len(batches)
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.flatten() for p in scorer.parameters()])


def distance(found, expected):
    """Largest difference of loss and gradient."""
    return max(abs(found[0] - expected[0]), float((found[1] - expected[1]).abs().max()))


EXAMPLES = [turns_of(*document) for document in DOCUMENTS]
COUNT = sum(e.terms[0] for e in EXAMPLES)


def test_packed_padded_and_one_by_one_are_plain_transformers(chat_model):
    expected = plain(chat_model)
    alone = [pack([e], COUNT / len(EXAMPLES)) for e in EXAMPLES]
    for batches in ([pack(EXAMPLES)], [pad(EXAMPLES)], [pad(EXAMPLES, pad_id=7)], alone):
        assert distance(ours(chat_model, *batches), expected) < 1e-5


def shifted(place):
    """All of a batch's predictors so much later."""
    batch = pack(EXAMPLES)
    return batch._replace(predictors=(batch.predictors + place).clamp(0, batch.tokens.numel() - 1))


def displaced():
    batch = pack(EXAMPLES)
    lengths = [0, *(len(e) for e in EXAMPLES)]
    later = torch.where(batch.documents == 2, lengths[2], 0)
    return batch._replace(predictors=batch.predictors - later)


def relabelled(change):
    """Documents whose labels were made in a wrong way."""
    return pack([turns_of(*change(list(ids), list(labels))) for ids, labels in DOCUMENTS])


def unmasked(ids, labels):
    return ids, [-100, *ids[1:]]


def without_pad(ids, labels):
    return ids, [-100 if token == 0 else label for token, label in zip(ids, labels, strict=True)]


def last_user_turn(ids, labels):
    first = next(n for n, label in enumerate(labels) if label >= 0)
    return ids, [*([-100] * 2), *ids[2 : first - 3], *labels[first - 3 :]]


def without_marks(ids, labels):
    return ids, [-100] * len(ids) if len(ids) > 70 else labels


def truncated(ids, labels):
    return ids[:40], labels[:40]


def first_of_neighbour():
    flat = joined(
        [p for e in EXAMPLES for p in ((e.tokens[:1], e is not EXAMPLES[0]), (e.tokens[1:], False))]
    )
    batch, extra = pack(EXAMPLES), pack([flat])
    count = len(extra.targets)
    more = {
        name: torch.cat([getattr(batch, name), getattr(extra, name)])
        for name in ("predictors", "targets", "segments", "documents")
    }
    return batch._replace(denominator=batch.denominator + count, **more)


def leaking():
    batch = pack(EXAMPLES)
    return batch._replace(boundaries=batch.boundaries[[0, -1]], longest=batch.tokens.shape[1])


def running_positions():
    batch = pack(EXAMPLES)
    # as where rows are laid end to end and nobody tells: attention by position alone
    return batch._replace(
        positions=torch.arange(batch.tokens.shape[1])[None],
        boundaries=batch.boundaries[[0, -1]],
        longest=batch.tokens.shape[1],
    )


def retokenised():
    # what was sampled as "3", " ", "o" comes back from the text as other ids
    swap = [
        replace(e, tokens=tuple(ord("O") if t == ord("o") else t for t in e.tokens))
        for e in EXAMPLES
    ]
    return pack(swap)


PLANTED = {
    # the bug: the source, and the batches that it makes
    "prompt not masked": ("OpenRLHF#294", lambda: [relabelled(unmasked)]),
    "end masked as it is the pad": (
        "common, no issue",
        lambda: [relabelled(without_pad)],
    ),
    "shifted by one": ("common, no issue", lambda: [shifted(1)]),
    "not shifted back": ("common, no issue", lambda: [shifted(-1)]),
    "ranges displaced under packing": ("OpenRLHF#781", lambda: [displaced()]),
    "attention leaks across documents": ("LLaMA-Factory#2289", lambda: [leaking()]),
    "rows laid end to end untold": ("LLaMA-Factory#2289", lambda: [running_positions()]),
    "a template without marks": ("TRL#6668, #3927", lambda: [relabelled(without_marks)]),
    "last user turn trained on": ("OpenRLHF#294", lambda: [relabelled(last_user_turn)]),
    "mean of each micro-batch": ("transformers#34191", lambda: [pack([e]) for e in EXAMPLES]),
    "text tokenised again": ("TRL, text encoded again", lambda: [retokenised()]),
    "end cut off in silence": ("TRL max_length 1024, keep_start", lambda: [relabelled(truncated)]),
    "first token from its neighbour": ("LLaMA-Factory#2289", lambda: [first_of_neighbour()]),
}


def test_positions_restart_in_each_document(chat_model):
    batch = pack(EXAMPLES)
    assert batch.positions[0].tolist() == [n for e in EXAMPLES for n in range(len(e))]
    # A model of relative positions, such as this, would not tell: nothing but the line above does.
    running = batch._replace(positions=torch.arange(batch.tokens.shape[1])[None])
    assert distance(ours(chat_model, running), plain(chat_model)) < 1e-4


@pytest.mark.parametrize(("source", "plant"), PLANTED.values(), ids=PLANTED)
def test_a_planted_bug_is_seen(chat_model, source, plant):
    assert distance(ours(chat_model, *plant()), plain(chat_model)) > 1e-3, source


def test_a_template_without_marks_makes_the_same_sequences(tmp_path):
    # TRL#6668, #3927: its mask would be all zeros, and the loss 0.0
    model = save_tiny_chat_model(tmp_path / "model")
    path = model / "chat_template.jinja"
    marked = path.read_text()
    path.write_text(marked.replace("{% generation %}", "").replace("{% endgeneration %}", ""))
    assert path.read_text() != marked
    data = loaded(model, tmp_path, [{"messages": messages(talk)} for talk in TALKS])
    # the line break behind the last turn is no target and is not kept
    wanted = [Turns(e.tokens[:-1], e.spans) for e in EXAMPLES]
    found = [data.examples[n] for n in range(len(TALKS))]
    assert [(f.tokens, f.target) for f in found] == [(w.tokens, w.target) for w in wanted]


@pytest.mark.parametrize(
    ("accumulate", "budget"), [(1, None), (2, None), (3, None), (7, None), (3, 160), (1, 1000)]
)
def test_a_step_is_exact_to_the_token(chat_model, tmp_path, accumulate, budget):
    rows = written(tmp_path, [{"messages": messages(talk)} for talk in TALKS])
    module = SFTModule(str(chat_model), partial(torch.optim.SGD, lr=1.0))
    data = SolutionDataModule(
        str(chat_model), rows, batch_size=5, token_budget=budget, max_tokens=160
    )
    trainer = fit(module, data, tmp_path, accumulate)
    assert trainer.global_step == 1
    loss, gradient = plain(chat_model)
    before = parameters(AutoModelForCausalLM.from_pretrained(chat_model))
    assert_close(parameters(module), before - gradient, atol=1e-5, rtol=1e-5)
    assert float(trainer.callback_metrics["sft/loss"]) == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("adapter", [None, LoRA(rank=4)], ids=["whole", "adapter"])
def test_recomputed_activations_give_the_same_step(chat_model, tmp_path, adapter):
    rows = [{"messages": messages(talk)} for talk in TALKS]
    corpus = written(tmp_path, rows)
    stepped, recomputed = [], []
    for recomputes in (False, True):
        module = SFTModule(str(chat_model), SGD, gradient_checkpointing=recomputes, adapter=adapter)
        torch.manual_seed(0)  # of a new adapter
        fit(module, SolutionDataModule(str(chat_model), corpus), tmp_path / str(recomputes))
        stepped.append(parameters(module))
        recomputed.append(module.policy.lm.is_gradient_checkpointing)
    assert recomputed == [False, True]
    assert_close(stepped[1], stepped[0], atol=0, rtol=0)


def loaded(model, folder, rows, **given):
    """Rows as a fit reads them."""
    data = SolutionDataModule(str(model), written(folder, rows, "bad"), **given)
    data.trainer = quiet_trainer(folder / "run")
    data.examples = data.training_examples(data.corpus)
    return data


U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
GOOD = {"messages": [U, A]}
BAD = [  # row, reason, sentence
    ({"messages": [U, U, A]}, "role out of order", "message 2, of role 'user', follows one of"),
    ({"messages": [A]}, "role out of order", "message 1, of role 'assistant', is the first"),
    ({"messages": [{"role": "tool", "content": "x"}, A]}, "unknown role", "role 'tool'"),
    ({"messages": [{"content": "x"}, A]}, "unknown role", "message 1 is of role 'None'"),
    ({"messages": [U, {**A, "content": " "}]}, "empty message", "message 2, of role 'assistant'"),
    ({"messages": [U, {**A, "content": None}]}, "no content", "message 2 has no content"),
    ({"messages": [U, {**A, "content": ""}]}, "no content", "message 2 has no content"),
    ({"messages": [U]}, "no answer at the end", "the last message is of role 'user'"),
    ({"messages": "hello"}, "no messages", "the messages are 'hello'"),
    ({"messages": None, "prompt": None, "solution": "b"}, "no problem", "has no statement"),
    ({"prompt": "a", "solution": None}, "no solution", "line 2 has no solution"),
    ({"prompt": "a", "solution": ""}, "no solution", "line 2 has no solution"),
    ({"prompt": "a", "solution": {"text": None, "tokens": []}}, "no solution", "has no solution"),
    ({"prompt": "a", "solution": {"tokens": ["b"]}}, "no token ids", "no list of token ids"),
    ({"prompt": "a", "solution": {"tokens": [-1]}}, "no token ids", "no list of token ids"),
    ({**GOOD, "finish_reason": "length"}, "cut-off answer", r"come to its end \(length\)"),
    ({"prompt": "a", "solution": "b", "finished": False}, "cut-off answer", "come to its end"),
    ({"prompt": 3, "solution": "b"}, "prompt of no text", "the prompt is '3'"),
]


@pytest.mark.parametrize(("row", "reason", "said"), BAD)
def test_a_bad_row_is_left_out_and_counted_or_refused(
    chat_model, tmp_path, caplog, row, reason, said
):
    data = loaded(chat_model, tmp_path, [GOOD, row], max_unusable=0.5)
    counted = f"unusable_{reason.replace(' ', '_')}"
    assert data.counts == {
        "rows": 2,
        "sequences": 1,
        "rows_too_long": 0,
        "rows_cut": 0,
        "rows_unusable": 1,
        counted: 1,
    }
    assert "1 of 2 rows of" in caplog.text
    with pytest.raises(ValueError, match=said) as refused:
        loaded(chat_model, tmp_path, [GOOD, row])
    assert f"({reason}): line 2" in str(refused.value).replace(str(data.corpus.path) + " ", "")
    assert "That is more than data.max_unusable=0.01 of them: mend or" in str(refused.value)


def test_rows_that_no_setting_can_save_are_refused_at_once(tiny_model, chat_model, tmp_path):
    for model, row, given, said in (
        (chat_model, {"prompt": "a", "solution": {"tokens": [128]}}, {}, "the token id 128"),
        (
            chat_model,
            {"messages": [U, A, U, A]},
            {"chat": False},
            "is a conversation, and data.chat is false",
        ),
        (tiny_model, GOOD, {}, "has no chat template: set chat to false"),
        (chat_model, GOOD, {"max_tokens": 2}, r"no row to train on .*longer than 2 tokens"),
    ):
        with pytest.raises(ValueError, match=said):
            loaded(model, tmp_path, [row], **given)
    with pytest.raises(ValueError, match="one of the two"):
        SolutionDataModule(str(chat_model))
    with pytest.raises(ValueError, match="one of the two"):
        SolutionDataModule(str(chat_model), Corpus("x"), mixture={"a": Weighted(Corpus("y"))})
    with pytest.raises(ValueError, match="it is a share, from 0 to 1"):
        SolutionDataModule(str(chat_model), Corpus("x"), max_unusable=2.0)


def test_rows_longer_than_the_model_s_context_are_dropped_or_cut(chat_model, tmp_path, caplog):
    rows = [GOOD, {"messages": [U, {**A, "content": "b" * 3000}]}]
    data = loaded(chat_model, tmp_path, rows, max_tokens=100_000)
    assert (data.counts["sequences"], data.counts["rows_too_long"]) == (1, 1)
    assert "are longer than 2048 tokens and were left out" in caplog.text
    for too_long in ("keep_start", "keep_end"):
        data = loaded(chat_model, tmp_path, rows, max_tokens=100_000, too_long=too_long)
        assert (data.counts["sequences"], data.counts["rows_cut"]) == (2, 1)
        assert len(data.examples[1]) == 2048
        assert (data.examples[1].target[-1] == 0) == (too_long == "keep_end")


def test_a_solution_without_a_domain_is_of_the_corpus_s(tiny_model, tmp_path):
    rows = [{"statement": "add", "solution": "b"}, {"statement": "add", "solution": "b"}]
    rows[1]["domain"] = "code"
    corpus = replace(written(tmp_path, rows), domain="code")
    data = SolutionDataModule(str(tiny_model), corpus, chat=False)
    [(_, first), (_, second)] = data.held_out_sequences(corpus)
    assert first == second


def test_solutions_are_imitated_token_for_token(tiny_model, tmp_path):
    rows = [
        {"prompt": p, "solution": c if n % 2 else {"text": c, "tokens": list(map(ord, c))}}
        for n, (p, c) in enumerate(PAIRS)
    ]
    module = SFTModule(str(tiny_model), SGD)
    data = SolutionDataModule(str(tiny_model), written(tmp_path, rows), chat=False, batch_size=5)
    fit(module, data, tmp_path, accumulate=2)
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    nll = [-plain_logprobs(lm, list(map(ord, p)), [*map(ord, c), 0]) for p, c in PAIRS]
    torch.cat(nll).mean().backward()
    expected = torch.cat([(p - RATE * p.grad).detach().flatten() for p in lm.parameters()])
    assert_close(parameters(module), expected, atol=2e-5, rtol=1e-4)


def test_the_rate_follows_the_schedule_over_epochs_and_micro_batches(tiny_model, tmp_path):
    class Rates(SFTModule):
        def on_before_optimizer_step(self, optimizer):
            self.rates = [*getattr(self, "rates", []), optimizer.param_groups[0]["lr"]]

    rows = [{"prompt": p, "solution": c} for p, c in PAIRS]
    data = SolutionDataModule(str(tiny_model), written(tmp_path, rows), chat=False, batch_size=2)
    schedule = Schedule("linear", warmup=0.5, floor=0.2)
    module = Rates(str(tiny_model), SGD, schedule=schedule)
    fit(module, data, tmp_path, accumulate=2, epochs=2)
    # 6 steps: up by thirds, then down to a fifth, of which the last step is a third short
    factors = [1 / 3, 2 / 3, 1.0, 1.0, 1 - 0.8 / 3, 1 - 1.6 / 3]
    assert module.rates == pytest.approx([RATE * factor for factor in factors])
