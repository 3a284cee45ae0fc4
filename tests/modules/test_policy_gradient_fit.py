"""Fits by a policy gradient: the step against plain autograd, the old policy kept, misuse named."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from quiet_fit import fit, plain_logprobs
from safetensors.torch import load_file
from tiny import save_tiny_model
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from datamodules import RationaleDataModule, RolloutDataModule
from modules import EStepModule, PolicyGradient
from promptcot.corpora import Corpus
from promptcot.records import Problem

SGD = partial(torch.optim.SGD, lr=1.0)
SHIFT = 0.3
"""What every other token of the sampler's log-probabilities is off by."""


@pytest.fixture
def corpus(tiny_model, tmp_path):
    """Two problems with three samples each, of ragged lengths; one of them was cut off."""
    rows = []
    for problem, statement in enumerate(("a + b?", "how many primes?")):
        for sample, text in enumerate(("why", "so that it is hard", "it")):
            finished = (problem, sample) != (1, 2)
            rows.append(
                {
                    "id": f"p{problem}",
                    "domain": "math",
                    "level": "",
                    "concepts": ["k"],
                    "statement": statement,
                    "reference": None,
                    "rationale": text,
                    "group": f"g{problem}",
                    "reward": [[-3.0, -1.0, -8.0], [-30.0, -30.5, -20.0]][problem][sample],
                    "finished": finished,
                    "tokens": list(map(ord, text)),
                }
            )
    path = tmp_path / "rollouts.jsonl"
    data = RolloutDataModule(str(tiny_model), Corpus(str(path)))
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        for row in rows:
            target = [*row["tokens"], *([0] if row["finished"] else [])]
            prompt = list(map(ord, data.format.rationale_prompt(Problem.from_row(row))))
            exact = plain_logprobs(lm, prompt, target)
            exact[::2] += SHIFT
            row["sampler_logprobs"] = exact.tolist()
            row["reference_logprobs"] = (exact - 0.1).tolist()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus(str(path))


def read(corpus):
    return [json.loads(line) for line in Path(corpus.path).read_text().splitlines()]


def moved(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


ADVANTAGES = {
    # -3, -1, -8: the others' means are -4.5, -5.5, -2; the mean is -4, the deviation sqrt(13)
    # -30, -30.5, -20: the others' means are -25.25, -25, -30.25; the mean is -161 / 6
    "rloo": [1.5, 4.5, -6.0, -4.75, -5.5, 10.25],
    "mean": [1.0, 3.0, -4.0, -30 + 161 / 6, -30.5 + 161 / 6, -20 + 161 / 6],
}


@pytest.mark.parametrize("baseline", ["rloo", "mean"])
@pytest.mark.parametrize("correction", ["none", "truncate", "mask"])
def test_the_first_step_is_that_of_reinforce_weighed_by_the_samplers_ratio(
    tiny_model, corpus, tmp_path, baseline, correction
):
    estimator = PolicyGradient(correction=correction, correction_limit=1.2)
    module = EStepModule(str(tiny_model), SGD, estimator)
    data = RolloutDataModule(str(tiny_model), corpus, baseline, batch_size=6)
    fit(module, data, tmp_path / "run", 3)
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    total, count = 0.0, 0
    for rollout, advantage in zip(data.examples, ADVANTAGES[baseline], strict=True):
        logprobs = plain_logprobs(lm, rollout.prompt, rollout.target)
        # the ratio is exp(-0.3) = 0.74 where the sampler was off: not above 1.2, below 1 / 1.2
        off = {"none": 1.0, "truncate": 2.718281828**-SHIFT, "mask": 0.0}[correction]
        weights = torch.ones(len(logprobs))
        weights[::2] = off
        total = total - (weights * advantage * logprobs).sum()
        count += len(logprobs)
    (total / count).backward()
    expected = torch.cat([(p - p.grad).detach().flatten() for p in lm.parameters()])
    assert_close(moved(module), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("accumulate", [2, 6, 8])
def test_accumulated_micro_batches_step_as_one(tiny_model, corpus, tmp_path, accumulate):
    found = []
    for parts in (1, accumulate):
        module = EStepModule(str(tiny_model), SGD, PolicyGradient(kl_coefficient=0.2))
        data = RolloutDataModule(str(tiny_model), corpus, batch_size=6)
        fit(module, data, tmp_path / "run", parts)
        found.append(moved(module))
    assert_close(found[1], found[0], atol=1e-6, rtol=1e-5)


def test_the_ratio_is_to_the_policy_that_sampled_however_many_epochs_and_runs_later(
    tiny_model, corpus, tmp_path
):
    # at a rate of 1 the log-probabilities are -400000 by the third step, and its gradient is nan
    module = EStepModule(str(tiny_model), partial(torch.optim.SGD, lr=0.01), PolicyGradient())
    data = RolloutDataModule(str(tiny_model), corpus, batch_size=3)
    fit(module, data, tmp_path / "run", epochs=2)
    [kept] = (tmp_path / "run" / "policy_logprobs").glob("*.safetensors")
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        exact = torch.cat([plain_logprobs(lm, e.prompt, e.target) for e in data.examples])
    assert_close(load_file(kept)["logprobs"], exact, atol=1e-5, rtol=1e-5)
    # another fit in the folder, of a policy that has moved on, still takes them
    written = kept.stat().st_mtime_ns
    fit(module, RolloutDataModule(str(tiny_model), corpus, batch_size=3), tmp_path / "run")
    assert kept.stat().st_mtime_ns == written


def test_the_ratio_of_other_weights_in_the_same_folder_is_to_themselves(
    tiny_model, corpus, tmp_path
):
    for weights in (tiny_model, save_tiny_model(tmp_path / "other", seed=5)):
        module = EStepModule(str(weights), SGD, PolicyGradient())
        data = RolloutDataModule(str(weights), corpus, batch_size=6)
        trainer = fit(module, data, tmp_path / "run")
        assert float(trainer.callback_metrics["e_step/ratio"]) == pytest.approx(1.0, abs=1e-5)


def test_a_penalty_draws_towards_the_reference_and_none_given_is_named(
    tiny_model, corpus, tmp_path
):
    rows = read(corpus)
    for row in rows:
        row["reward"] = 0.0  # nothing to gain
    still = tmp_path / "still.jsonl"
    still.write_text("".join(json.dumps(row) + "\n" for row in rows))
    start = moved_by(PolicyGradient(), tiny_model, Corpus(str(still)), tmp_path / "none")
    pulled = moved_by(
        PolicyGradient(kl_coefficient=1.0), tiny_model, Corpus(str(still)), tmp_path / "k3"
    )
    assert start == 0.0
    assert pulled > 0.0
    for row in rows:
        del row["reference_logprobs"]
    still.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="set reference_model in the recipe Rollouts"):
        moved_by(PolicyGradient(kl_coefficient=1.0), tiny_model, Corpus(str(still)), tmp_path / "x")


def moved_by(estimator, tiny_model, corpus, folder):
    module = EStepModule(str(tiny_model), SGD, estimator)
    fit(module, RolloutDataModule(str(tiny_model), corpus, batch_size=6), folder)
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    before = torch.cat([p.detach().flatten() for p in lm.parameters()])
    return float((moved(module) - before).norm())


def test_estimator_and_data_that_do_not_go_together_are_named(tiny_model, corpus, tmp_path):
    rollouts = RolloutDataModule(str(tiny_model), corpus)
    with pytest.raises(ValueError, match="would imitate them all"):
        fit(EStepModule(str(tiny_model), SGD), rollouts, tmp_path / "a")
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"statement": "x", "concepts": ["k"], "rationale": "z"}\n')
    annotations = RationaleDataModule(str(tiny_model), Corpus(str(bare)))
    with pytest.raises(ValueError, match=r"class_path datamodules\.RolloutDataModule"):
        fit(EStepModule(str(tiny_model), SGD, PolicyGradient()), annotations, tmp_path / "b")
    with pytest.raises(ValueError, match=r"line 1 has no group, reward, tokens.*recipe Rollouts"):
        fit(
            EStepModule(str(tiny_model), SGD, PolicyGradient()),
            RolloutDataModule(str(tiny_model), Corpus(str(bare))),
            tmp_path / "c",
        )


def test_rows_are_those_that_the_corpus_names(tiny_model, corpus):
    def groups(**given):
        found = RolloutDataModule(str(tiny_model), Corpus(**{"path": corpus.path, **given}))
        return [rollout.group for rollout in found.training_examples(found.corpus)]

    assert groups(limit=3) == ["g0"] * 3
    assert groups(only={"id": "p1"}) == ["g1"] * 3
    assert groups(path=corpus.path.replace("rollouts", "roll*")) == ["g0"] * 3 + ["g1"] * 3


@pytest.mark.parametrize("field", ["statement", "level", "rationale"])
def test_a_row_without_its_problem_is_named(tiny_model, corpus, field):
    rows = [{name: row[name] for name in row if name != field} for row in read(corpus)]
    Path(corpus.path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=rf"line 1 has no {field}: .* recipe Rollouts"):
        RolloutDataModule(str(tiny_model), corpus).training_examples(corpus)


def test_rows_of_another_tokenizer_are_refused(tiny_model, corpus, tmp_path):
    rows = read(corpus)
    rows[1]["sampler_logprobs"].append(0.0)
    changed = tmp_path / "changed.jsonl"
    changed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="line 2: 20 sampler_logprobs for 19 sampled tokens"):
        RolloutDataModule(str(tiny_model), Corpus(str(changed))).training_examples(
            Corpus(str(changed))
        )


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"clip_low": 0.0}, "clip_low=0.0"),
        ({"kl_coefficient": -1.0}, "kl_coefficient=-1.0"),
        ({"correction_limit": 1.0}, "correction_limit=1.0"),
        ({"clip_high": float("nan")}, "clip_high=nan"),
        ({"kl_coefficient": float("nan")}, "kl_coefficient=nan"),
        ({"correction_limit": float("nan")}, "correction_limit=nan"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given, named):
    with pytest.raises(ValueError, match=named):
        PolicyGradient(**given)
