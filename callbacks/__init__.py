"""What happens around a fit."""

from callbacks.collapse import CollapseAlarms
from callbacks.export import ExportWeights
from callbacks.predictions import WritePredictions
from callbacks.progress import SaveProgress
from callbacks.refresh import RefreshTrainingSet
from callbacks.throughput import Throughput

__all__ = [
    "CollapseAlarms",
    "ExportWeights",
    "RefreshTrainingSet",
    "SaveProgress",
    "Throughput",
    "WritePredictions",
]
