"""The transformers engine against plain transformers, and its sampling against the softmax."""

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from promptcot.engines import HFEngine
from promptcot.engines.decoding import _choose, _draws, _inverse_transform, _nucleus
from promptcot.engines.kv_cache import ROOM, BlockCache, fill_gaps
from promptcot.protocols import Request, Sampling, ScoreRequest, Target

END = 0
PROMPTS = ["hello", "a longer prompt than the first", "x", "some more words"]


@pytest.fixture(scope="module")
def engine(tiny_model):
    return HFEngine(str(tiny_model), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def plain(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="eager")


def sample(engine, sampling, *requests):
    results = dict(engine.generate([Request(*r) for r in requests], sampling))
    return [results[i] for i in range(len(requests))]


def teacher_forced(plain, prompt, completion):
    """Log-probability of each sampled token by one plain forward pass."""
    sampled = [*completion.tokens, *[END] * completion.finished]
    tokens = torch.tensor([[*map(ord, prompt), *sampled]])
    with torch.no_grad():
        logprobs = plain(tokens).logits[0].log_softmax(-1)
    start = len(prompt) - 1
    return [logprobs[start + i, token].item() for i, token in enumerate(sampled)]


def test_greedy_equals_generate_for_ragged_prompts_beyond_the_first_block(engine, plain):
    length = 2 * ROOM + 8
    ours = sample(engine, Sampling(1, 0.0, 1.0, length), *[(p,) for p in PROMPTS])
    for prompt, (completion,) in zip(PROMPTS, ours, strict=True):
        tokens = torch.tensor([[*map(ord, prompt)]])
        whole = plain.generate(tokens, max_new_tokens=length, do_sample=False, pad_token_id=END)
        expected = whole[0, tokens.shape[1] :].tolist()
        assert [*completion.tokens, *[END] * completion.finished] == expected


@pytest.mark.parametrize("sampling", [Sampling(3, 1.0, 1.0, 80), Sampling(3, 0.6, 0.8, 80)])
def test_logprobs_equal_a_teacher_forced_pass_at_temperature_1(engine, plain, sampling):
    rows = sample(engine, sampling, *[(p, i) for i, p in enumerate(PROMPTS)])
    for prompt, completions in zip(PROMPTS, rows, strict=True):
        for completion in completions:
            expected = teacher_forced(plain, prompt, completion)
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_a_finished_row_counts_its_end_token_and_a_cut_off_one_is_full(engine):
    rows = sample(engine, Sampling(8, 1.0, 1.0, 60), *[(p, i) for i, p in enumerate(PROMPTS)])
    completions = [completion for row in rows for completion in row]
    assert {c.finished for c in completions} == {True, False}
    for completion in completions:
        assert END not in completion.tokens
        assert len(completion.logprobs) == len(completion.tokens) + completion.finished
        assert completion.finished or len(completion.tokens) == 60
        assert len(completion.logprobs) <= 60


def test_a_completion_is_the_same_alone_and_among_others_that_end_before_it(engine):
    sampling = Sampling(4, 1.0, 1.0, 60)
    together = sample(engine, sampling, *[(p, i) for i, p in enumerate(PROMPTS)])
    assert len({len(c.logprobs) for row in together for c in row}) > 4  # rows did end early
    for index, prompt in enumerate(PROMPTS):
        (alone,) = sample(engine, sampling, (prompt, index))
        for one, other in zip(alone, together[index], strict=True):
            assert one.tokens == other.tokens
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_samples_of_one_prompt_differ_and_come_again_with_the_seed(engine):
    sampling = Sampling(6, 1.0, 1.0, 12)
    (first,), (again,), (other,) = (sample(engine, sampling, ("abc", s)) for s in (5, 5, 6))
    assert len({c.tokens for c in first}) == 6
    assert first == again
    assert {c.tokens for c in first}.isdisjoint(c.tokens for c in other)


def test_n_completions_share_one_pass_over_the_prompt(engine):
    widths = []
    decoder = engine.scorer.lm.get_decoder()
    hook = decoder.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    sample(engine, Sampling(5, 1.0, 1.0, 2), ("abcdef", 5))
    hook.remove()
    assert widths == [(1, 6), (5, 1)]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("vocabulary", [300, 256, 7])
def test_frequencies_match_the_softmax(vocabulary, temperature):
    count = 20_000
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(1))
    sampling = Sampling(n=1, temperature=temperature, max_tokens=1)
    draws = _draws(range(count), sampling)[:, 0]
    chosen, logprobs = _choose(logits.expand(count, -1), draws, sampling)
    expected = (logits / temperature).softmax(-1) * count
    observed = torch.bincount(chosen, minlength=vocabulary)
    chi_square = ((observed - expected).square() / expected).sum().item()
    # Mean V - 1 and variance 2 (V - 1); five deviations above the mean.
    freedom = vocabulary - 1
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5
    assert_close(logprobs, logits.log_softmax(-1)[chosen])


def test_the_inverse_transform_agrees_with_one_running_sum_over_everything():
    weights = torch.rand(50, 1000, generator=torch.Generator().manual_seed(2))
    weights[:, ::3] = 0
    draws = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    sums = weights.double().cumsum(-1)
    expected = torch.searchsorted(sums, (draws * sums[:, -1])[:, None], right=True)[:, 0]
    # The sums of groups are in float32: a draw within 1e-6 of an edge may fall on its other side.
    assert (_inverse_transform(weights, draws) == expected).float().mean() > 0.97


@pytest.mark.parametrize("draw", [0.0, 1.0 - 2.0**-53])
def test_the_outermost_draws_fall_on_tokens_that_have_a_probability(draw):
    weights = torch.zeros(3, 1000)
    weights[0, 999] = 1.0
    weights[1, 0] = 0.3
    weights[2, 400:600] = 0.1
    chosen = _inverse_transform(weights, torch.full((3,), draw, dtype=torch.float64))
    assert (weights.gather(-1, chosen[:, None]) > 0).all()


def test_top_p_samples_from_the_smallest_set_that_reaches_it(engine):
    probabilities = torch.tensor([0.05, 0.5, 0.15, 0.3])
    assert_close(_nucleus(probabilities[None], 0.7)[0], torch.tensor([0.0, 0.5, 0.0, 0.3]))
    sampling = Sampling(n=1, top_p=0.7, max_tokens=1)
    draws = _draws(range(2000), sampling)[:, 0]
    chosen, logprobs = _choose(probabilities.log().expand(2000, -1), draws, sampling)
    assert set(chosen.tolist()) == {1, 3}
    assert (chosen == 1).float().mean().item() == pytest.approx(0.5 / 0.8, abs=0.04)
    assert_close(logprobs, probabilities.log()[chosen])  # of the whole distribution


def test_gaps_are_filled_by_the_last_rows():
    rows, going = torch.arange(6), torch.tensor([True, False, True, False, True, True])
    assert fill_gaps(going)(rows).tolist() == [0, 4, 2, 5]
    assert fill_gaps(torch.tensor([True, True, False]))(torch.arange(3)).tolist() == [0, 1]


def test_a_block_grows_without_losing_what_it_holds():
    cache = BlockCache()
    assert cache.reserve(5) == 5
    first = torch.randn(2, 1, 5, 4)
    cache.update(first, first, 0)
    width = cache.reserve(1)
    assert width == 5 + 1 + ROOM
    keys, _ = cache.update(torch.ones(2, 1, 1, 4), torch.ones(2, 1, 1, 4), 0)
    assert cache.get_seq_length() == 6
    assert_close(keys[:, :, :5], first)
    assert (keys[:, :, 5] == 1).all()
    assert (keys[:, :, 6:] == 0).all()


def test_where_nothing_predicts_nothing_is_made_up(engine, tiny_model):
    with pytest.raises(ValueError, match="prompt 1 has no tokens, so that nothing predicts"):
        next(engine.generate([Request("hello"), Request("")], Sampling(max_tokens=4)))
    with pytest.raises(ValueError, match="prompt 0 has no tokens"):
        next(engine.score([ScoreRequest("", Target((("a",),)))]))
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"batch_size={size}: a batch has 1 request or more"):
            HFEngine(str(tiny_model), batch_size=size)
