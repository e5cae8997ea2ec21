"""The engine that all faces share: caches, sampling, batches."""

from vlm.engine.engine import Engine, Picture, Step
from vlm.engine.sampling import Sampling

__all__ = ["Engine", "Picture", "Sampling", "Step"]
