"""DeepSpeed without a GPU, for tests: Lightning refuses it, DeepSpeed itself does not.

Named in YAML as ``cpu_deepspeed.CPUDeepSpeed``, with this folder on PYTHONPATH.
"""

from __future__ import annotations

from importlib import import_module

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy


class CPUDeepSpeed(DeepSpeedStrategy):
    """Lightning's strategy, but for its three questions after a GPU."""

    def __init__(self, stage: int = 2) -> None:
        super().__init__(stage=stage, process_group_backend="gloo")

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0)

    def setup_environment(self) -> None:
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        backend = import_module("deepspeed.comm.torch")
        backend.build_shm_op = lambda: None  # it would be compiled, for a minute
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()
