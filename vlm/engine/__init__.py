"""The engine: paged caches, sampling, batching; yields tokens. The model keeps no state."""

from vlm.engine.engine import Engine
from vlm.engine.pictures import Picture
from vlm.engine.sampling import Sampling
from vlm.engine.scheduler import Limits, QueueFull, RequestFailed, Step

__all__ = ["Engine", "Limits", "Picture", "QueueFull", "RequestFailed", "Sampling", "Step"]
