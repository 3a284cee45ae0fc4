"""A fit that stops at any step goes on as if it had not: the same weights, bit for bit."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from quiet_fit import quiet_trainer
from safetensors.torch import load_file

from callbacks import ExportWeights, SaveProgress
from datamodules import ComposeDataModule
from modules import MStepModule
from promptcot.corpora import Corpus

ACCUMULATE, BATCH, ROWS, EPOCHS = 2, 4, 10, 3
STEPS = EPOCHS * -(-ROWS // BATCH)  # 3 a epoch: 4, 4 and 2 rows
CONFIG = {"seed_everything": 1, "model": {"lr": 0.01}, "data": {}, "trainer": {}}


class Blow(Exception):
    """Stands for whatever ends a fit."""


class BlowAt(Callback):
    """Ends the fit before micro-batch ``number``, counted from 0 over all epochs."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_train_batch_start(self, trainer, *_):
        if trainer.fit_loop.total_batch_idx == self.number:
            raise Blow


class Noting(SaveProgress):
    """Keeps the numbers of the steps that were saved."""

    def __init__(self, **given):
        super().__init__(**given)
        self.steps = []

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        self.steps.append(trainer.global_step)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"statement": "a" * n, "concepts": ["k"], "rationale": "why " * (n % 3 + 1)}
        for n in range(1, ROWS + 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus(str(path))


def fit(
    model, corpus, folder, blow_at=None, every_n_steps=1, *, config=CONFIG, saver=None, **settings
):
    """Fit, or go on with the fit that was cut off in the folder; the losses of each micro-batch."""
    saver = saver or SaveProgress(every_n_steps)
    callbacks = [saver, ExportWeights()]
    if blow_at is not None:
        callbacks.append(BlowAt(blow_at))
    module = MStepModule(str(model), partial(torch.optim.AdamW, lr=1e-2))
    trainer = quiet_trainer(
        folder,
        max_epochs=EPOCHS,
        accumulate_grad_batches=ACCUMULATE,
        gradient_clip_val=1.0,
        callbacks=callbacks,
        **settings,
    )
    data = ComposeDataModule(str(model), corpus, batch_size=BATCH)
    trainer.fit(module, data, ckpt_path=saver.resume(folder, config), weights_only=True)
    return load_file(folder / "weights" / "model.safetensors")


@pytest.mark.parametrize(
    ("every_n_steps", "cuts"),
    [
        (1, range(STEPS * ACCUMULATE)),  # epochs' ends and half-accumulated steps among them
        (2, (3, 6, 9)),
        (100, (2, 7, 17)),
        (None, (2, 7, 17)),
    ],
)
def test_a_fit_cut_off_before_any_micro_batch_ends_with_the_same_weights(
    tiny_model, corpus, tmp_path, every_n_steps, cuts
):
    calm = fit(tiny_model, corpus, tmp_path / "calm")
    for number in cuts:
        folder = tmp_path / f"cut-{number}"
        with pytest.raises(Blow):
            fit(tiny_model, corpus, folder, number, every_n_steps)
        resumed = fit(tiny_model, corpus, folder, every_n_steps=every_n_steps)
        assert resumed.keys() == calm.keys()
        assert all(torch.equal(resumed[name], calm[name]) for name in calm), number
        assert not (folder / "progress").exists()


@pytest.mark.parametrize(
    ("max_share", "saved"),
    [(1e-9, [1, 3, 6, 9]), (1.0, list(range(1, STEPS + 1)))],  # the first tells what it takes
)
def test_steps_are_saved_as_often_as_their_share_of_the_time_allows(
    tiny_model, corpus, tmp_path, max_share, saved
):
    saver = Noting(max_share=max_share)
    fit(tiny_model, corpus, tmp_path, saver=saver)
    assert saver.steps == saved


@pytest.mark.parametrize(
    ("given", "said"),
    [({"every_n_steps": 0}, "at least 1 step"), ({"max_share": 0.0}, r"in \(0, 1\]")],
)
def test_a_saver_that_would_never_save_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        SaveProgress(**given)


def test_a_fit_cut_off_again_and_again_ends_with_the_same_weights(tiny_model, corpus, tmp_path):
    calm = fit(tiny_model, corpus, tmp_path / "calm")
    for number in range(1, STEPS * ACCUMULATE):
        with pytest.raises(Blow):
            fit(tiny_model, corpus, tmp_path / "cut", number)
    resumed = fit(tiny_model, corpus, tmp_path / "cut")
    assert all(torch.equal(resumed[name], calm[name]) for name in calm)


def test_half_a_checkpoint_is_not_in_the_way_of_a_whole_one(tiny_model, corpus, tmp_path):
    half = tmp_path / "progress" / "epoch-0-step-1.ckpt"
    half.mkdir(parents=True)  # as a sharded fit leaves it that was killed
    (half / "__0_0.distcp").write_bytes(b"half")
    with pytest.raises(Blow):
        fit(tiny_model, corpus, tmp_path, 2)
    assert half.is_file()


def test_a_checkpoint_that_is_pointed_to_is_not_written_again(tiny_model, corpus, tmp_path):
    written = []
    for _ in range(2):  # the second time the epoch is ended once more, because of max_steps
        with pytest.raises(Blow):
            fit(tiny_model, corpus, tmp_path, 6, max_steps=100)
        [checkpoint] = (tmp_path / "progress").glob("*.ckpt")
        written.append((checkpoint.name, checkpoint.stat().st_mtime_ns))
    assert written[0] == written[1]


@pytest.mark.parametrize("number", [6, 7, 12, 15])  # of 6 micro-batches a epoch
def test_a_fit_limited_in_epochs_and_steps_is_no_epoch_short_when_it_goes_on(
    tiny_model, corpus, tmp_path, number
):
    calm = fit(tiny_model, corpus, tmp_path / "calm", max_steps=100)
    with pytest.raises(Blow):
        fit(tiny_model, corpus, tmp_path / "cut", number, max_steps=100)
    resumed = fit(tiny_model, corpus, tmp_path / "cut", max_steps=100)
    assert all(torch.equal(resumed[name], calm[name]) for name in calm)


def rows_of_epochs(model, corpus, folder, **settings):
    """Target tokens of each row in the order in which three epochs take them."""
    seen: list[list[int]] = []

    class Note(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 0:
                seen.append([])
            seen[-1].append(len(batch.targets))

    module = MStepModule(str(model))
    data = ComposeDataModule(str(model), corpus, batch_size=1)
    trainer = quiet_trainer(
        folder, max_epochs=3, enable_checkpointing=False, callbacks=[Note()], **settings
    )
    trainer.fit(module, data)
    return seen


def test_each_epoch_has_an_order_of_its_own(tiny_model, corpus, tmp_path):
    seen = rows_of_epochs(tiny_model, corpus, tmp_path)
    assert [len(epoch) for epoch in seen] == [ROWS] * 3
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(seen[2])
    assert len({tuple(epoch) for epoch in seen}) == 3


def test_a_fit_that_is_to_overfit_some_batches_has_them_in_every_epoch(
    tiny_model, corpus, tmp_path
):
    seen = rows_of_epochs(tiny_model, corpus, tmp_path, overfit_batches=4)
    assert len(seen[0]) == 4
    assert seen[0] == seen[1] == seen[2]


def test_an_interrupted_fit_with_other_settings_is_refused(tiny_model, corpus, tmp_path):
    with pytest.raises(Blow):
        fit(tiny_model, corpus, tmp_path / "cut", 3)
    changed = {**CONFIG, "model": {"lr": 0.02}}
    with pytest.raises(ValueError, match=r"made with model\.lr = 0\.01, now it is 0\.02"):
        fit(tiny_model, corpus, tmp_path / "cut", config=changed)


@pytest.mark.parametrize(
    "setting", [{"gradient_clip_algorithm": "value"}, {"limit_train_batches": 4}]
)
def test_settings_of_the_trainer_that_decide_the_steps_may_not_change(
    tiny_model, corpus, tmp_path, setting
):
    with pytest.raises(Blow):
        fit(tiny_model, corpus, tmp_path, 3)
    [(name, value)] = setting.items()
    with pytest.raises(ValueError, match=rf"trainer\.{name} = None, now it is {value!r}"):
        SaveProgress().resume(tmp_path, {**CONFIG, "trainer": setting})


def test_memory_and_speed_may_change_and_settings_of_earlier_versions_lack_them(
    tiny_model, corpus, tmp_path
):
    with pytest.raises(Blow):
        fit(tiny_model, corpus, tmp_path, 5, config=given(gradient_checkpointing=True))
    for now in (given(), given(gradient_checkpointing=0.5, torch_compile=True)):
        assert SaveProgress().resume(tmp_path, now) is not None
    pointer = tmp_path / "progress" / "latest.json"
    latest = json.loads(pointer.read_text())
    latest["settings"]["model"]["init_args"]["torch_compile"] = False
    pointer.write_text(json.dumps(latest))
    assert SaveProgress().resume(tmp_path, given()) is not None
    with pytest.raises(ValueError, match="rate"):
        SaveProgress().resume(tmp_path, given(rate=2))


def given(**arguments):
    """The configuration of a fit of a class with arguments."""
    return {**CONFIG, "model": {"class_path": "M", "init_args": {"rate": 1, **arguments}}}


def test_other_rows_than_the_checkpoints_are_refused(tiny_model, corpus, tmp_path):
    with pytest.raises(Blow):
        fit(tiny_model, corpus, tmp_path / "cut", 3)
    with open(corpus.path, "a") as file:
        file.write('{"statement": "new", "concepts": ["k"], "rationale": "w"}\n')
    with pytest.raises(ValueError, match="are not those that the checkpoint was trained on"):
        fit(tiny_model, corpus, tmp_path / "cut")
