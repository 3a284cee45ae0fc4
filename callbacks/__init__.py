"""What happens around a fit."""

from callbacks.export import ExportWeights
from callbacks.predictions import WritePredictions
from callbacks.progress import SaveProgress
from callbacks.refresh import RefreshTrainingSet

__all__ = ["ExportWeights", "RefreshTrainingSet", "SaveProgress", "WritePredictions"]
