"""What happens around a fit."""

from callbacks.export import ExportWeights
from callbacks.progress import SaveProgress

__all__ = ["ExportWeights", "SaveProgress"]
