"""What happens around a fit."""

from callbacks.export import ExportWeights

__all__ = ["ExportWeights"]
