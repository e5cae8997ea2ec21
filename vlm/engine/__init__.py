"""The engine: paged caches, sampling, batching; yields tokens. The model keeps no state."""

from vlm.engine.constraints import Constraint, json_schema, regex
from vlm.engine.engine import Engine
from vlm.engine.pictures import Picture
from vlm.engine.sampling import Sampling
from vlm.engine.scheduler import Limits, QueueFull, RequestFailed, Step

__all__ = [
    "Constraint",
    "Engine",
    "Limits",
    "Picture",
    "QueueFull",
    "RequestFailed",
    "Sampling",
    "Step",
    "json_schema",
    "regex",
]
