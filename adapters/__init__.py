"""Connectors: image features (B, I, L, N, C) -> image states (B, S, D) that text attends to.

The contract: `connector(features, n_tiles) -> (states, lengths)`, where n_tiles (B, I) says how many tiles of a picture
are real (0: no picture in this slot), states hold the kept tokens of a row one picture after another with zeros at the
end, and lengths (B, I) count the image tokens of each picture.
"""

from adapters.projector import Linear

CONNECTORS = {
    "linear": Linear,
}
