"""A guard before and behind a model: what goes in and what comes out is judged, by the policy's categories.

    m = vlm.load(guard="default")                  # the small guard of the package; or the folder of another
    m.shield.check(messages, response=None)        # Verdict(safe, categories, score, stage, source)

The guard contract: `check(messages, response=None) -> Verdict`, where the last message, or the response to all of them,
is judged. It may raise: whoever acts on it (`Shield`) fails closed.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "default"  # the guard in WEIGHTS
