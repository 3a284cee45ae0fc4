"""Log-probabilities: hand-counted tokens, packed against padded against transformers' own."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from promptcot.attention import _one_by_one, _varlen
from promptcot.batches import pack, pad
from promptcot.engines import HFEngine
from promptcot.likelihood import TargetLogprobs, by_segment, load_causal_lm
from promptcot.prompts import PromptFormat
from promptcot.protocols import Request, Sampling, ScoreRequest, Target
from promptcot.rewards import rationale_reward
from promptcot.tokens import Example, encode

EXAMPLES = [
    Example((72, 105), (33, 34, 35, 0), (1, 3)),
    Example((65, 66, 67, 68, 69), (70, 71, 0), (1, 2)),
    Example((90,), (91, 92, 93, 94, 95, 96, 97, 0), (5, 3)),
]


def by_transformers(folder, examples):
    """One sequence at a time through the plain model, eager attention, no code of ours."""
    lm = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    values = []
    for example in examples:
        tokens = torch.tensor([example.tokens])
        logprobs = lm(tokens).logits[0].log_softmax(-1)
        start = len(example.prompt)
        values += [logprobs[i - 1, tokens[0, i]] for i in range(start, len(example))]
    return torch.stack(values)


@pytest.mark.parametrize("layout", [pack, pad])
def test_packed_and_padded_equal_plain_transformers(tiny_model, layout):
    ours = TargetLogprobs(load_causal_lm(str(tiny_model), torch.float32))(layout(EXAMPLES))
    assert_close(ours, by_transformers(tiny_model, EXAMPLES), atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_kernel_of_gpus_attends_as_one_call_a_document_does():
    torch.manual_seed(0)
    query, key, value, weight = (
        torch.randn(1, heads, 300, 64, device="cuda", dtype=torch.bfloat16)
        for heads in (6, 2, 2, 6)
    )
    boundaries = torch.tensor([0, 70, 71, 300], dtype=torch.int32, device="cuda")
    found = []
    for attend in (partial(_varlen, longest=229), partial(_one_by_one, dropout=0.0)):
        tensors = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
        mixed = attend(*tensors, boundaries=boundaries, scaling=None)
        (mixed * weight).sum().backward()
        found.append([mixed, *(tensor.grad for tensor in tensors)])
    for mine, its in zip(*found, strict=True):
        assert_close(mine, its, atol=0.05, rtol=0.02)


def test_gradients_of_packed_and_padded_agree(tiny_model):
    gradients = []
    for layout in (pack, pad):
        model = TargetLogprobs(load_causal_lm(str(tiny_model), torch.float32))
        model(layout(EXAMPLES)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    scale = gradients[1].abs().max()
    assert_close(gradients[0] / scale, gradients[1] / scale, atol=1e-5, rtol=0)


def test_a_document_does_not_see_its_neighbours(tiny_model):
    model = TargetLogprobs(load_causal_lm(str(tiny_model), torch.float32))
    other = Example((9, 8, 7), (6, 0), (2,))
    first = by_segment(model(pack([EXAMPLES[0], EXAMPLES[1]])), pack([EXAMPLES[0], EXAMPLES[1]]))
    moved = by_segment(model(pack([other, EXAMPLES[1]])), pack([other, EXAMPLES[1]]))
    for a, b in zip(first[1], moved[1], strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_the_reward_counts_the_tokens_of_z_and_x_with_tags_and_end_and_none_of_the_prompt(
    tiny_model,
):
    format = PromptFormat(rationale_tags=("<", ">"), problem_tags=("[", "]"))
    request = ScoreRequest("abc", format.compose_target("zz", "xyz"))
    engine = HFEngine(str(tiny_model), dtype="float32")
    reward = rationale_reward(dict(engine.score([request]))[0])
    # One token a character: "<zz>" is 4 tokens; "[xyz]" and the end token are 6.
    assert (reward.rationale_tokens, reward.problem_tokens) == (4, 6)
    text = "abc<zz>[xyz]"
    tokens = [*map(ord, text), 0]
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    logprobs = lm(torch.tensor([tokens])).logits[0].log_softmax(-1)
    each = [logprobs[i - 1, tokens[i]].item() for i in range(3, len(tokens))]
    assert reward.log_rationale == pytest.approx(sum(each[:4]), abs=1e-4)
    assert reward.log_problem == pytest.approx(sum(each[4:]), abs=1e-4)
    assert reward.value() == pytest.approx(sum(each), abs=1e-4)


def test_markup_of_the_end_token_in_a_text_is_no_end_token(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    example = encode(tokenizer, "a", Target((("<end>",),)))
    assert example.target == (*map(ord, "<end>"), 0)


def test_greedy_decoding_equals_transformers_generate(tiny_model):
    engine = HFEngine(str(tiny_model), dtype="float32", batch_size=2)
    prompts = ["hello", "a longer prompt than the first", "x"]
    ours = dict(engine.generate([Request(p) for p in prompts], Sampling(1, 0.0, 1.0, 24)))
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    for index, prompt in enumerate(prompts):
        tokens = torch.tensor([[*map(ord, prompt)]])
        whole = lm.generate(tokens, max_new_tokens=24, do_sample=False, pad_token_id=0)
        expected = [t for t in whole[0, tokens.shape[1] :].tolist() if t != 0]
        assert list(ours[index][0].tokens) == expected


def test_logprobs_of_sampling_equal_those_of_scoring(tiny_model):
    engine = HFEngine(str(tiny_model), dtype="float32")
    sampling = Sampling(n=3, temperature=0.7, max_tokens=12)
    for completion in dict(engine.generate([Request("abc", 5)], sampling))[0]:
        target = Target(((completion.tokens,),), ends=completion.finished)
        scored = dict(engine.score([ScoreRequest("abc", target)]))[0][0]
        assert completion.logprobs == pytest.approx(scored, abs=1e-4)


def test_a_row_draws_the_same_whatever_its_neighbours(tiny_model):
    engine = HFEngine(str(tiny_model), dtype="float32")
    sampling = Sampling(n=2, temperature=1.0, max_tokens=12)
    alone = dict(engine.generate([Request("abc", 5)], sampling))[0]
    among = dict(engine.generate([Request("zz", 1), Request("abc", 5)], sampling))[1]
    assert [c.tokens for c in alone] == [c.tokens for c in among]
    assert alone[0].tokens != alone[1].tokens


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    from promptcot.engines.decoding import _nucleus

    # 0.5 + 0.3 reaches 0.7, so 0.15 and 0.05 are cut; order of the vocabulary is kept.
    kept = _nucleus(torch.tensor([[0.05, 0.5, 0.15, 0.3]]), 0.7)
    assert_close(kept, torch.tensor([[0.0, 0.5, 0.0, 0.3]]))


def test_a_prompt_that_cannot_end_within_the_context_is_named(tiny_model):
    engine = HFEngine(str(tiny_model))
    with pytest.raises(ValueError, match="prompt 1 has 2040 tokens"):
        list(engine.generate([Request("a"), Request("a" * 2040)], Sampling(max_tokens=20)))
