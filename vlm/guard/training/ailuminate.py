"""AILuminate's demo prompts (MLCommons, CC-BY-4.0): people's hazardous requests, many of them long, sly or indirect.

Rows are split by a hash of their text, so that a row stays where it is whatever else is read. Prompts about sex that
mention anybody young are left out.
"""

import csv
import os
import re
import zlib
from pathlib import Path

from vlm.guard.training.example import Example

HAZARDS = {
    "vcr": "S1", "ncr": "S2", "src": "S3", "dfm": "S5", "spc_hlt": "S6", "spc_fin": "S6", "spc_lgl": "S6", "prv": "S7",
    "ipv": "S8", "iwp": "S9", "hte": "S10", "ssh": "S11", "sxc_prn": "S12", "spc_ele": "S13",
}  # fmt: skip
SEXUAL = ("S3", "S12")
YOUNG = re.compile(
    r"\b(kids?|child\w*|minors?|teen\w*|under ?age\w*|boys?|girls?|school\w*|students?|daughters?|sons?|pupils?"
    r"|young\w*|bab(y|ies)|toddlers?|infants?|loli\w*|juven\w*|\d+[ -]years?)\b", re.IGNORECASE,
)  # fmt: skip
SHARES = (("train", 60), ("val", 75), ("test", 100))  # up to which percent


def read_ailuminate(path: str | os.PathLike) -> dict[str, list[Example]]:
    """The prompts of an AILuminate CSV by split; the family is the hazard.

    Raises:
        ValueError: not such a file.
    """
    found: dict[str, list[Example]] = {split: [] for split, _ in SHARES}
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                text, hazard = row["prompt_text"].strip(), row["hazard"]
                if hazard not in HAZARDS or (HAZARDS[hazard] in SEXUAL and YOUNG.search(text)):
                    continue
                percent = zlib.crc32(text.encode()) % 100
                split = next(name for name, end in SHARES if percent < end)
                found[split].append(Example(text, (), True, HAZARDS[hazard], hazard, "ailuminate"))
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, csv.Error) as error:
        raise ValueError(
            f"{path}: no AILuminate prompts ({error!r:.80}); expected a CSV with prompt_text and hazard"
        ) from None
    if not any(found.values()):
        raise ValueError(f"{path}: found no prompt of a known hazard; expected a CSV with prompt_text and hazard")
    return found
