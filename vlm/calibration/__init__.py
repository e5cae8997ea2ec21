"""What a model knows of its own limits: how likely its answer is right, and whether a picture is of its worlds.

- confidence.py: log-probabilities of an answer's tokens -> probability that it is right.
- domain.py: the encoder's features of a picture -> how far it lies from the worlds that the model was trained on.
- fit.py: both, fitted on pictures that worlds.py draws (`vlm calibrate`).
- Their files lie beside the weights: vlm/checkpoints/calibration.py.
"""

from dataclasses import dataclass, field
from typing import Any

from vlm.calibration.confidence import Confidence
from vlm.calibration.domain import Domain

__all__ = ["Calibration", "Confidence", "Domain"]


@dataclass(kw_only=True)
class Calibration:
    """Both, and how they were fitted.

    Attributes:
        fitted: worlds, seed, counts and figures, as plain data.
    """

    confidence: Confidence
    domain: Domain
    fitted: dict[str, Any] = field(default_factory=dict)
