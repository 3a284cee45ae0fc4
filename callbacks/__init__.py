"""What happens around a fit."""

from callbacks.export import ExportWeights
from callbacks.predictions import WritePredictions
from callbacks.progress import SaveProgress

__all__ = ["ExportWeights", "SaveProgress", "WritePredictions"]
