"""A two-layer model with a tokenizer of single characters, built at once, without a download."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<end>"
CHAT = (
    "{% for m in messages %}{{ m.role[0] + ':' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<end>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<end>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}"
)
"""A chat template in the manner of ChatML, with the marks that TRL looks for."""


def save_tiny_model(folder: Path, seed: int = 0, hidden: int = 32) -> Path:
    """A random Llama whose token ids 1 to 127 are the ASCII characters and 0 is the end token."""
    vocabulary = {END: 0, **{chr(code): code for code in range(1, 128)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()  # else a space between any two characters
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END).save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=0,
        bos_token_id=None,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def save_tiny_chat_model(folder: Path, seed: int = 0) -> Path:
    """The same with a chat template."""
    (save_tiny_model(folder, seed) / "chat_template.jinja").write_text(CHAT)
    return folder


def save_tiny_adapter(
    base: Path, folder: Path, seed: int = 0, rank: int = 4, std: float = 0.05
) -> Path:
    """A random LoRA of a model, far from doing nothing, with the model's tokenizer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder
