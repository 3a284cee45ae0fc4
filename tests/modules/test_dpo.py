"""DPO fits: the step against plain autograd, the reference kept, misuse named."""

import json
import math
from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from quiet_fit import fit, plain_logprobs
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from datamodules import PairDataModule, SolutionDataModule
from modules import DPOModule, Preference
from modules.adapters import LoRA
from promptcot.columns import Columns
from promptcot.corpora import Corpus
from promptcot.fingerprints import weights_fingerprint
from promptcot.pairs import Pair, pack_pairs, with_reference
from promptcot.store import open_round
from promptcot.tokens import Example

RATE = 0.05
SGD = partial(torch.optim.SGD, lr=RATE)
PAIRS = [
    ("1 + 1?", "it is 2", "it is 11, I think"),
    ("why?", "because", "no"),
    ("how many primes below 10?", "4", "2, 3, 5, 7, 9: five of them"),
    ("name one", "b", "a"),
    ("the last?", "yes, this", "that"),
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def corpus(tmp_path):
    """Pairs of ragged lengths; of one the chosen side as token ids."""
    rows = [{"prompt": p, "chosen": c, "rejected": r, "id": p} for p, c, r in PAIRS]
    rows[1]["chosen"] = {"text": "because", "tokens": list(map(ord, "because"))}
    return written(tmp_path / "pairs.jsonl", rows)


def written(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus(str(path))


def pair_data(model, corpus, **given):
    return PairDataModule(str(model), corpus, chat=False, **{"batch_size": 5, **given})


def parameters(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def by_hand(lm, reference, preference):
    """The mean loss of all pairs, sequence by sequence, as the papers print it."""
    losses, nlls = [], []
    for prompt, chosen, rejected in PAIRS:
        ratios, nll = [], None
        for text in (chosen, rejected):
            ids = list(map(ord, prompt)), [*map(ord, text), 0]
            mine, theirs = plain_logprobs(lm, *ids), plain_logprobs(reference, *ids).detach()
            nll = -mine if nll is None else nll
            ratio = (mine - theirs).sum()
            ratios.append(ratio / len(mine) if preference.length_normalised else ratio)
        m, b, e = ratios[0] - ratios[1], preference.beta, preference.label_smoothing
        right, wrong = -torch.sigmoid(b * m).log(), -torch.sigmoid(-b * m).log()
        loss = {
            "sigmoid": (1 - e) * right + e * wrong,
            "robust": ((1 - e) * right - e * wrong) / (1 - 2 * e),
            "hinge": (1 - b * m).clamp(min=0),
            "ipo": (m - 1 / (2 * b)) ** 2,
        }[preference.loss]
        losses.append(loss)
        nlls.append(nll)
    return torch.stack(losses).mean() + preference.nll_weight * torch.cat(nlls).mean()


@pytest.mark.parametrize(
    "preference",
    [
        Preference(),
        Preference(beta=0.5, label_smoothing=0.2),
        Preference("robust", label_smoothing=0.1),
        Preference("hinge", beta=0.3),
        Preference("ipo", length_normalised=True),
        Preference(length_normalised=True, beta=2.0, nll_weight=0.7),
    ],
)
def test_two_steps_are_those_of_plain_autograd(tiny_model, corpus, tmp_path, preference):
    module = DPOModule(str(tiny_model), SGD, preference)
    fit(module, pair_data(tiny_model, corpus), tmp_path / "run", accumulate=2, epochs=2)
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model)
    for _ in range(2):  # in the second one the ratios are not 1 any more
        lm.zero_grad()
        by_hand(lm, reference, preference).backward()
        with torch.no_grad():
            for parameter in lm.parameters():
                parameter -= RATE * parameter.grad
    assert_close(parameters(module), parameters(lm), atol=5e-5, rtol=1e-4)


def test_a_policy_that_is_the_reference_pays_ln_2_and_has_no_margin(tiny_model, corpus, tmp_path):
    still = partial(torch.optim.SGD, lr=0.0)
    trainer = fit(DPOModule(str(tiny_model), still), pair_data(tiny_model, corpus), tmp_path)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert found["dpo/loss"] == pytest.approx(math.log(2), abs=1e-5)
    for name in ("margin", "chosen_log_ratio", "rejected_log_ratio"):
        assert found[f"dpo/{name}"] == pytest.approx(0.0, abs=1e-5)
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    nll = [-plain_logprobs(lm, list(map(ord, p)), [*map(ord, c), 0]) for p, c, _ in PAIRS]
    assert found["dpo/chosen_nll"] == pytest.approx(torch.cat(nll).mean().item(), abs=1e-4)


def test_steps_make_chosen_more_likely_than_rejected(tiny_model, corpus, tmp_path):
    module = DPOModule(str(tiny_model), partial(torch.optim.SGD, lr=0.05), Preference(beta=1.0))
    trainer = fit(module, pair_data(tiny_model, corpus), tmp_path, epochs=6)
    found = trainer.callback_metrics
    assert found["dpo/accuracy"] == 1.0
    assert found["dpo/chosen_log_ratio"] > found["dpo/rejected_log_ratio"]
    assert found["dpo/preference"] < math.log(2)


@pytest.mark.parametrize("accumulate", [2, 5, 8])
def test_accumulated_micro_batches_step_as_one_even_where_some_are_empty(
    tiny_model, corpus, tmp_path, accumulate
):
    found, said = [], []
    for parts in (1, accumulate):
        module = DPOModule(str(tiny_model), SGD, Preference(nll_weight=0.3))
        trainer = fit(module, pair_data(tiny_model, corpus), tmp_path / "run", parts, epochs=2)
        found.append(parameters(module))
        said.append({k: float(v) for k, v in trainer.callback_metrics.items()})
    assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
    assert said[1] == pytest.approx(said[0], abs=1e-4)


def test_packed_pairs_know_their_sequences():
    a, b = Example((1, 2), (3, 4, 5), (3,)), Example((1, 2), (6,), (1,))
    c, d = Example((9,), (8, 7), (2,)), Example((9,), (8, 6, 5), (3,))
    pairs = with_reference([Pair(a, b), Pair(c, d)], [-1, -2, -3, -4, -5, -6, -7, -8, -9])
    assert pairs[1].reference_logprobs == (-5, -6, -7, -8, -9)
    batch = pack_pairs([pairs[0], Pair(c, d).untargeted(), pairs[1]])
    assert batch.chosen.tolist() == [0, 4]
    assert batch.rejected.tolist() == [1, 5]
    assert batch.lengths.tolist() == [3, 1, 1, 1, 2, 3]
    assert batch.sequences.denominator == 2
    assert batch.sequences.documents.tolist() == [0, 0, 0, 1, 4, 4, 5, 5, 5]
    assert batch.sequences.tokens.shape[1] == 5 + 3 + 3 + 4 + 3 + 4


def test_the_reference_is_kept_for_later_epochs_and_resumed_fits(tiny_model, corpus, tmp_path):
    module = DPOModule(str(tiny_model), SGD)
    data = pair_data(tiny_model, corpus, batch_size=2)
    trainer = fit(module, data, tmp_path / "run", epochs=2)
    [kept] = (tmp_path / "run" / "reference_logprobs").glob("*.safetensors")
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        exact = torch.cat(
            [plain_logprobs(lm, s.prompt, s.target) for p in data.examples for s in p.sequences]
        )
    assert_close(load_file(kept)["logprobs"], exact, atol=1e-5, rtol=1e-5)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    written = kept.stat().st_mtime_ns
    again = pair_data(tiny_model, corpus, batch_size=2)
    resumed = {"ckpt_path": tmp_path / "last.ckpt", "epochs": 3}
    fit(DPOModule(str(tiny_model), SGD), again, tmp_path / "run", **resumed)
    assert kept.stat().st_mtime_ns == written
    kept.unlink()
    with pytest.raises(FileNotFoundError, match="is gone: the log-probabilities of the policy"):
        fit(
            DPOModule(str(tiny_model), SGD),
            pair_data(tiny_model, corpus, batch_size=2),
            tmp_path / "run",
            **resumed,
        )


@pytest.mark.parametrize(
    ("adapter", "precision"), [(None, "bf16-true"), (LoRA(rank=2, base="bfloat16"), "32-true")]
)
def test_a_reference_of_another_precision_in_the_same_folder_is_not_taken(
    tiny_model, corpus, tmp_path, adapter, precision
):
    still = partial(torch.optim.SGD, lr=0.0)
    fit(DPOModule(str(tiny_model), still), pair_data(tiny_model, corpus), tmp_path)
    said = []
    for folder in (tmp_path, tmp_path / "of-its-own"):
        module = DPOModule(str(tiny_model), still, adapter=adapter)
        trainer = fit(module, pair_data(tiny_model, corpus), folder, precision=precision)
        said.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert said[0] == said[1]
    assert len(list((tmp_path / "reference_logprobs").glob("*.safetensors"))) == 2


def test_with_an_adapter_the_reference_is_the_adapter_at_the_start_not_the_base(
    tiny_model, corpus, tmp_path
):
    from tiny import save_tiny_adapter

    adapter = save_tiny_adapter(tiny_model, tmp_path / "adapter", std=0.2)
    still = partial(torch.optim.SGD, lr=0.0)
    trainer = fit(DPOModule(str(adapter), still), pair_data(adapter, corpus), tmp_path / "run")
    assert float(trainer.callback_metrics["dpo/margin"]) == pytest.approx(0.0, abs=1e-5)
    [kept] = (tmp_path / "run" / "reference_logprobs").glob("*.safetensors")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    prompt, chosen, _ = PAIRS[0]
    bare = plain_logprobs(base, list(map(ord, prompt)), [*map(ord, chosen), 0])
    assert not torch.allclose(load_file(kept)["logprobs"][: len(bare)], bare, atol=1e-2)
    fresh = DPOModule(str(tiny_model), still, adapter=LoRA(rank=2))
    trainer = fit(fresh, pair_data(tiny_model, corpus), tmp_path / "fresh")
    assert float(trainer.callback_metrics["dpo/loss"]) == pytest.approx(math.log(2), abs=1e-5)


def a_round(folder, policy, chat, name="round"):
    engine = {"class_path": "promptcot.engines.HFEngine", "init_args": {"chat": chat}}
    with open_round(folder / name, {"policy": policy, "engine": engine}) as making:
        for number, (prompt, chosen, rejected) in enumerate(PAIRS):
            row = {"id": f"{number}", "statement": prompt, "chosen": chosen, "rejected": rejected}
            making.append("rows", f"{number}", row)
    return Corpus(str(folder / name / "rows.jsonl"))


def test_a_round_of_other_weights_or_asked_in_another_way_is_refused(tiny_model, tmp_path):
    from tiny import save_tiny_model

    made = a_round(tmp_path, weights_fingerprint(str(tiny_model)), chat=False)
    data = PairDataModule(str(tiny_model), made, batch_size=5)
    fit(DPOModule(str(tiny_model), SGD), data, tmp_path / "run")
    assert list((tmp_path / "round" / "reference_logprobs").glob("*.safetensors"))
    assert data.examples[0].chosen.prompt[:6] == tuple(map(ord, "1 + 1?"))  # the template's first
    other = save_tiny_model(tmp_path / "other", seed=9)
    with pytest.raises(ValueError, match=r"made by other weights .* of which the fit starts"):
        fit(DPOModule(str(other), SGD), PairDataModule(str(other), made), tmp_path / "x")
    fit(
        DPOModule(str(other), SGD),
        PairDataModule(str(other), made, off_policy=True),
        tmp_path / "y",
    )
    with pytest.raises(ValueError, match=r"sampled with chat: false"):
        fit(
            DPOModule(str(tiny_model), SGD),
            PairDataModule(str(tiny_model), made, chat=True),
            tmp_path / "z",
        )


def test_long_pairs_are_left_out_and_counted_and_flaws_of_rows_named(
    tiny_model, corpus, tmp_path, caplog
):
    data = pair_data(tiny_model, corpus, max_tokens=30)
    fit(DPOModule(str(tiny_model), SGD), data, tmp_path)
    assert len(data.examples) == 4
    assert data.counts == {"rows": 5, "rows_too_long": 1}
    assert "1 of 5 rows are longer than 30 tokens and were left out: how many primes" in caplog.text
    with pytest.raises(ValueError, match=r"no row to train on \(5 with a pair, 5 of them longer"):
        fit(DPOModule(str(tiny_model), SGD), pair_data(tiny_model, corpus, max_tokens=3), tmp_path)
    for row, said in (
        ({"prompt": "a", "chosen": "b"}, "line 1 has no rejected"),
        ({"prompt": "a", "chosen": "", "rejected": "b"}, "line 1 has no chosen"),
        ({"chosen": "b", "rejected": "c"}, "line 1 has no statement of a problem, and no prompt"),
        ({"prompt": 3, "chosen": "b", "rejected": "c"}, "the prompt is '3', which is no text"),
        (
            {"prompt": "a", "chosen": [{"content": "b"}], "rejected": "c"},
            "line 1 is a conversation",
        ),
        (
            {"prompt": "a", "chosen": {"text": "b", "tokens": ["b"]}, "rejected": "c"},
            r"line 1: the tokens of chosen are \"\['b'\]\", which is no list of token ids",
        ),
        (
            {"prompt": "a", "chosen": {"text": "b", "tokens": [128]}, "rejected": "c"},
            "has the token id 128, but the model .* has 128 tokens",
        ),
    ):
        bad = pair_data(tiny_model, written(tmp_path / "bad.jsonl", [row]))
        with pytest.raises(ValueError, match=said):
            fit(DPOModule(str(tiny_model), SGD), bad, tmp_path)
    held = pair_data(tiny_model, corpus, held_out=corpus)
    with pytest.raises(ValueError, match="pairs are only trained on"):
        fit(DPOModule(str(tiny_model), SGD), held, tmp_path)
    with pytest.raises(ValueError, match="nothing to validate: pairs are only trained on"):
        Trainer(accelerator="cpu", logger=False).validate(
            DPOModule(str(tiny_model), SGD), pair_data(tiny_model, corpus)
        )
    solutions = written(tmp_path / "s.jsonl", [{"prompt": "a", "solution": "b"}])
    with pytest.raises(ValueError, match=r"class_path datamodules\.PairDataModule"):
        fit(
            DPOModule(str(tiny_model), SGD),
            SolutionDataModule(str(tiny_model), solutions, chat=False),
            tmp_path,
        )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beta": 0.0}, "beta=0.0: it must be above 0"),
        ({"beta": float("inf")}, "beta=inf: it must be above 0 and finite"),
        ({"label_smoothing": 0.5}, "label_smoothing=0.5: it is a share of pairs"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "has no meaning for the loss ipo"),
        ({"nll_weight": -1.0}, "nll_weight=-1.0: it must be 0 or more, and finite"),
        ({"nll_weight": float("nan")}, "nll_weight=nan"),
    ],
)
def test_settings_without_meaning_are_named(given, said):
    with pytest.raises(ValueError, match=said):
        Preference(**given)


def test_rows_are_taken_as_the_corpus_says_whatever_their_file(tiny_model, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    from pyarrow import Table

    rows = [{"prompt": p, "chosen": c, "rejected": r, "kind": p[0]} for p, c, r in PAIRS]
    pq.write_table(Table.from_pylist(rows), tmp_path / "pairs.parquet")
    path = str(tmp_path / "pairs.parquet")
    every = pair_data(tiny_model, Corpus(path))
    assert len(every.training_examples(every.corpus)) == 5
    [first] = every.training_examples(Corpus(path, limit=1))
    assert first.chosen.prompt == tuple(map(ord, PAIRS[0][0]))
    assert len(every.training_examples(Corpus(path, only={"kind": "w"}))) == 1
    with pytest.raises(ValueError, match="rename them in the file"):
        every.training_examples(Corpus(path, columns=Columns(statement="kind")))
