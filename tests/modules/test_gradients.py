"""Optimizer steps: what decays, what is clipped, and what a gradient that is not finite does."""

import json
import math
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from quiet_fit import fit
from spoilt_fit import Spoilt
from torch import nn
from torch.testing import assert_close

import cli
from callbacks import SaveProgress
from datamodules import ComposeDataModule
from modules import MStepModule
from modules.adapters import LoRA
from modules.gradients import SkippedSteps, parameters_of
from modules.parameter_groups import parameter_groups
from promptcot.corpora import Corpus
from promptcot.likelihood import TargetLogprobs, load_causal_lm

ROWS = [
    {"statement": "a" * n, "concepts": ["k", "l"], "rationale": "why " * n} for n in range(1, 9)
]
CONFIG = {"seed_everything": 1, "model": {}, "data": {}, "trainer": {}}
ADAMW = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)
STEPS = 8  # of one row each


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Corpus(str(path))


def data(weights, corpus, batch_size=1):
    return ComposeDataModule(str(weights), corpus, batch_size=batch_size)


def spoilt(weights, *steps, by=math.nan):
    return Spoilt(str(weights), ADAMW, steps, by)


class Watch(Callback):
    """Notes each step's batches and what was logged; ends the fit before one of them."""

    def __init__(self, kill_at=None):
        self.batches, self.logged, self.kill_at = [], [], kill_at

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.kill_at:
            raise KeyError("killed")
        self.batches.append(batch)

    def on_train_batch_end(self, trainer, *_):
        self.logged.append({k: v.item() for k, v in trainer.logged_metrics.items()})


def stepped_by_hand(weights, batches):
    """Parameters and AdamW after a plain loop."""
    policy = TargetLogprobs(load_causal_lm(str(weights), torch.float32))
    optimizer = ADAMW(parameter_groups(policy.parameters()))
    for batch in batches:
        optimizer.zero_grad()
        (-policy(batch).sum() / batch.denominator).backward()
        nn.utils.clip_grad_norm_(parameters_of(optimizer), 1.0)
        optimizer.step()
    return policy, optimizer


def test_matrices_decay_and_norms_do_not():
    # AdamW: w - lr wd w - lr m / (sqrt(v) + eps); of a first step m / sqrt(v) is the sign of the
    # gradient, and of a zero one the step is the decay alone: 2 - 0.1 * 0.5 * 2 = 1.9
    matrix, norm, bias = (nn.Parameter(torch.full(shape, 2.0)) for shape in ((2, 2), (2,), ()))
    frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    groups = parameter_groups([norm, matrix, frozen, bias])
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
    for parameter in (matrix, norm, bias):
        parameter.grad = torch.zeros_like(parameter)
    matrix.grad[0, 0] = 3.0  # and 1.9 - 0.1 = 1.8
    optimizer.step()
    assert_close(matrix.detach(), torch.tensor([[1.8, 1.9], [1.9, 1.9]]))
    assert torch.equal(norm.detach(), torch.tensor([2.0, 2.0]))
    assert bias.item() == 2.0
    assert [len(group["params"]) for group in parameter_groups([matrix, frozen])] == [1]
    sliced = nn.Parameter(torch.empty(0))  # as DeepSpeed's stage 3 shows a matrix
    sliced.ds_shape = torch.Size((3, 4))
    assert parameter_groups([sliced]) == [{"params": [sliced]}]


@pytest.mark.parametrize("adapter", [None, LoRA(rank=4, alpha=8)])
def test_a_modules_optimizer_decays_matrices_alone(tiny_model, corpus, tmp_path, adapter):
    module = MStepModule(str(tiny_model), ADAMW, adapter=adapter)
    trainer = fit(module, data(tiny_model, corpus), tmp_path, max_steps=1)
    groups = trainer.optimizers[0].param_groups
    for group in groups:
        assert group["initial_lr"] == 1e-2
        matrices = group["weight_decay"] == 0.1
        assert group["weight_decay"] in (0.0, 0.1)
        assert all((p.dim() >= 2) == matrices for p in group["params"])
    assert len(groups) == (1 if adapter else 2)  # an adapter has nothing but matrices
    kept = sum(len(group["params"]) for group in groups)
    assert kept == sum(p.requires_grad for p in module.parameters())


def test_a_step_is_clipped_to_the_norm_that_it_logs(tiny_model, corpus, tmp_path):
    start = load_causal_lm(str(tiny_model), torch.float32)
    moved, watch = [], Watch()
    for clip in (None, 0.5):
        module = MStepModule(str(tiny_model), partial(torch.optim.SGD, lr=1.0))
        settings = {"gradient_clip_val": clip, "max_steps": 1, "callbacks": [watch]}
        fit(module, data(tiny_model, corpus, 8), tmp_path, 3, **settings)
        pairs = zip(module.policy.lm.parameters(), start.parameters(), strict=True)
        moved.append(torch.cat([(a - b).detach().flatten() for a, b in pairs]))
    norm = moved[0].norm().item()
    assert norm > 5  # far above the value
    steps = [logged["m_step/grad_norm"] for logged in watch.logged if logged]
    assert steps == pytest.approx([norm] * len(steps), rel=1e-5)
    assert_close(moved[1], moved[0] * 0.5 / norm, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("clip", [-1.0, math.nan])
def test_a_limit_that_would_turn_the_gradient_round_is_refused(
    tiny_model, corpus, tmp_path, clip, algorithm
):
    settings = {"gradient_clip_val": clip, "gradient_clip_algorithm": algorithm}
    with pytest.raises(ValueError, match=f"trainer.gradient_clip_val={clip}"):
        fit(MStepModule(str(tiny_model)), data(tiny_model, corpus), tmp_path, **settings)


def test_a_step_without_a_finite_gradient_is_as_if_it_had_not_been(tiny_model, corpus, tmp_path):
    watch = Watch()
    module = spoilt(tiny_model, 2, 5)
    with pytest.warns(UserWarning, match=r"step [25] is skipped: its gradient's norm is nan"):
        trainer = fit(
            module, data(tiny_model, corpus), tmp_path, gradient_clip_val=1.0, callbacks=[watch]
        )
    kept = [batch for step, batch in enumerate(watch.batches) if step not in (2, 5)]
    policy, optimizer = stepped_by_hand(tiny_model, kept)
    for (name, ours), theirs in zip(
        module.policy.named_parameters(), policy.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
        here, there = trainer.optimizers[0].state[ours], optimizer.state[theirs]
        assert here["step"] == there["step"] == STEPS - 2
        assert all(torch.equal(here[key], there[key]) for key in ("exp_avg", "exp_avg_sq"))
    assert [logged["m_step/skipped_steps"] for logged in watch.logged] == [0, 0, 1, 1, 1, 2, 2, 2]
    norms = [logged["m_step/grad_norm"] for logged in watch.logged]
    assert [math.isnan(norm) for norm in norms] == [step in (2, 5) for step in range(STEPS)]


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_three_steps_in_a_row_stop_the_fit(tiny_model, corpus, tmp_path, algorithm):
    module = spoilt(tiny_model, 0, 2, 3, 4, by=math.inf)
    said = (
        r"step 4: the gradient's norm is nan, not finite for 3 steps in a row now \(max_skipped=3; "
        r"4 of the fit's steps in all\): lower the optimizer's lr, set trainer\.gradient_clip_val"
    )
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(RuntimeError, match=said) as end,
    ):
        fit(
            module,
            data(tiny_model, corpus),
            tmp_path,
            gradient_clip_val=1.0,
            gradient_clip_algorithm=algorithm,
        )
    assert cli.is_users(end.value)  # so it ends with the sentence and status 2
    assert all(p.isfinite().all() for p in module.parameters())


def test_a_fit_killed_between_two_such_steps_stops_at_the_same_one(tiny_model, corpus, tmp_path):
    def run(kill_at=None):
        saver = SaveProgress(every_n_steps=1)
        module = spoilt(tiny_model, 0, 3, 4, 5)
        trainer = {"callbacks": [Watch(kill_at), saver]}
        trainer = {**trainer, "ckpt_path": saver.resume(tmp_path, CONFIG)}
        with pytest.warns(UserWarning, match="is skipped"):
            fit(module, data(tiny_model, corpus), tmp_path, enable_checkpointing=True, **trainer)

    with pytest.raises(KeyError, match="killed"):
        run(kill_at=4)
    with pytest.raises(
        RuntimeError, match=r"step 5: .* 3 steps in a row now \(max_skipped=3; 4 of"
    ):
        run()


def test_a_scaler_searches_its_scale_undisturbed(tiny_model, corpus, tmp_path):
    # float16 has no number above 65504: at a scale of 2^32 the first gradients are infinite
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**32)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    module = MStepModule(str(tiny_model), ADAMW, max_skipped=1)
    trainer = fit(
        module, data(tiny_model, corpus), tmp_path, gradient_clip_val=1.0, plugins=[plugin]
    )
    assert scaler.get_scale() < 2.0**32
    assert trainer.global_step == STEPS
    assert all(p.isfinite().all() for p in module.parameters())


def test_counting_begins_anew_after_a_finite_gradient():
    steps = SkippedSteps(limit=2)
    for number, norm in enumerate((math.nan, 1.0, math.inf, 2.0)):
        if math.isfinite(norm):
            assert not steps.count(norm, number)
        else:
            with pytest.warns(UserWarning, match=f"step {number} is skipped.* and 2 in a row stop"):
                assert steps.count(norm, number)
    assert steps.state_dict() == {"in_row": 0, "total": 2}
    with pytest.raises(ValueError, match=r"max_skipped=0: set it to 1"):
        SkippedSteps(limit=0)
