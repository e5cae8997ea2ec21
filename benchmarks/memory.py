"""What loading a model and encoding a picture cost in memory; `benchmarks.mllama` runs this in a process per side.

`python -m benchmarks.memory ours|theirs FOLDER float32|bfloat16 cpu|cuda TILES` prints one JSON object, in bytes.

Notable here:
- The peak is that of this process since it began (VmHWM): getrusage's would still hold the parent's.
- Every page of the weights is read before the peak is taken, so that mapped files cost what they will cost in use.
- The baseline is an interpreter with torch imported, and a context where there is a GPU.
"""

import json
import re
import sys
import time
from pathlib import Path

import torch

GRIDS = {1: (1, 1), 2: (1, 2), 4: (2, 2)}  # tiles -> rows and columns of the pictures that are measured
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process in bytes."""
    return int(re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[1]) * 1024


class Peak:
    """The most memory in use since `restart`, over what was in use then: the GPU's where there is one."""

    def __init__(self, device: str):
        self.device = torch.device(device)
        torch.zeros(1, device=self.device)
        self.restart()

    def restart(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            CLEAR.write_text("5")  # sets VmHWM to VmRSS
            self.before = resident("VmRSS")

    def read(self) -> int:
        now = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else resident("VmHWM")
        return now - self.before


def load_ours(folder: str, dtype: torch.dtype, device: str) -> torch.nn.Module:
    from vlm.checkpoints import load_checkpoint

    return load_checkpoint(folder, dtype=dtype, device=device).model


def load_theirs(folder: str, dtype: torch.dtype, device: str) -> torch.nn.Module:
    from transformers import MllamaForConditionalGeneration

    return MllamaForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval().to(device)


def picture(n_tiles: int, tile_size: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Random tiles (1, 1, n, 3, T, T), the same on every device."""
    generator = torch.Generator().manual_seed(n_tiles)
    return torch.randn(1, 1, n_tiles, 3, tile_size, tile_size, generator=generator).to(device, dtype)


def pad_picture(tiles: torch.Tensor, grid_id: int, max_tiles: int) -> dict[str, torch.Tensor]:
    """What transformers wants of a picture: all tiles that there could be, the id of its grid, which tiles are real."""
    n = tiles.shape[2]
    real = torch.arange(max_tiles, device=tiles.device)[None, None] < n
    return {
        "pixel_values": torch.nn.functional.pad(tiles, (0, 0) * 3 + (0, max_tiles - n)),
        "aspect_ratio_ids": torch.tensor([[grid_id]], device=tiles.device),
        "aspect_ratio_mask": real.long(),
    }


@torch.inference_mode()
def measure(side: str, folder: str, dtype: torch.dtype, device: str, n_tiles: int) -> dict[str, float]:
    """Load, read every weight, encode a picture: bytes and seconds."""
    peak, start = Peak(device), time.perf_counter()
    model = (load_ours if side == "ours" else load_theirs)(folder, dtype, device)
    seconds = time.perf_counter() - start
    weights = 0
    for tensor in model.state_dict().values():
        tensor.flatten().view(torch.uint8)[::1024].max()
        weights += tensor.nbytes
    found = {"weights": weights, "load_peak": peak.read(), "load_seconds": seconds}
    tile_size = model.config.image.tile_size if side == "ours" else model.config.vision_config.image_size
    tiles, grid = picture(n_tiles, tile_size, dtype, device), GRIDS[n_tiles]
    peak.restart()
    if side == "ours":
        model.encode_images(tiles, torch.tensor([[grid]], device=device))
    else:
        sizes = model.config.vision_config
        inputs = pad_picture(tiles, sizes.supported_aspect_ratios.index(list(grid)) + 1, sizes.max_num_tiles)
        model.model.multi_modal_projector(model.model.vision_model(**inputs).last_hidden_state)
    return found | {"encode_peak": peak.read()}


if __name__ == "__main__":
    side, folder, dtype, device, n_tiles = sys.argv[1:]
    print(json.dumps(measure(side, folder, getattr(torch, dtype), device, int(n_tiles))))
