"""Named groups of parameters: what a run trains and what it leaves as it is, in one table."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from adapters.lora import linears
from vlm.config import near_match

LORA = re.compile(r"\.lora_[AB]\.")
GROUPS = {  # every parameter is in one of these, adapters of whatever layer in "lora"
    "encoder": r"encoder\.",
    "connector": r"connector\.",
    "cross_attention": r"decoder\.cross_attention\.",
    "text": r"decoder\.(embed_tokens|layers|norm|lm_head)\.",
    "lora": LORA.pattern,
}
PARTS = {  # of a group
    "embeddings": r"decoder\.(embed_tokens|lm_head)\.",
    "image_keys": r"decoder\.cross_attention\.\d+\.attn\.(k_proj|v_proj|k_norm)\.",
}


class Row(NamedTuple):
    """One line of the table."""

    group: str
    parameters: int
    trainable: int
    dtype: str


def check_groups(names: Iterable[str], where: str = "trainable") -> None:
    """An unknown group is an error with the near match."""
    known = [*GROUPS, *PARTS]
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: found {name!r}, expected groups of {', '.join(known)}{near_match(name, known)}")


def in_group(parameter: str, group: str) -> bool:
    """Whether the parameter of this name belongs to the group; an adapter belongs to "lora" alone."""
    if group == "lora" or LORA.search(parameter):
        return group == "lora" and bool(LORA.search(parameter))
    return bool(re.match({**GROUPS, **PARTS}[group], parameter))


def freeze(model: nn.Module, trainable: Iterable[str]) -> None:
    """Train the parameters of these groups and no others."""
    trainable = tuple(trainable)
    check_groups(trainable)
    names = [name for name, _ in model.named_parameters()]
    for group in trainable:
        if not any(in_group(name, group) for name in names):
            here = [g for g in GROUPS if any(in_group(name, g) for name in names)]
            raise ValueError(f"trainable: this model has no parameters in {group!r}; it has {', '.join(here)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(in_group(name, group) for group in trainable))


def group_layers(model: nn.Module, groups: Iterable[str]) -> list[str]:
    """The linear layers of these groups that LoRA may adapt: all but the one that gives the logits, as in PEFT."""
    groups = tuple(groups)
    check_groups(groups, "lora.groups")
    layers = [p for p in linears(model) if p != "decoder.lm_head"]
    chosen = [p for p in layers if any(in_group(f"{p}.weight", group) for group in groups)]
    if not chosen:
        raise ValueError(f"lora.groups: this model has no linear layers in {', '.join(groups) or 'no group'}")
    return chosen


def group_table(model: nn.Module) -> list[Row]:
    """Parameters, how many of them train, and their dtype, for each group that the model has."""
    rows = []
    for group in GROUPS:
        found = [p for name, p in model.named_parameters() if in_group(name, group)]
        if found:
            dtypes = ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in found}))
            trainable = sum(p.numel() for p in found if p.requires_grad)
            rows.append(Row(group, sum(p.numel() for p in found), trainable, dtypes))
    return rows


def format_table(rows: list[Row]) -> str:
    """The rows and their sum as text."""
    total = Row("all", sum(r.parameters for r in rows), sum(r.trainable for r in rows), "")
    lines = [f"{'group':<16}{'parameters':>15}{'trainable':>15}  dtype"]
    lines += [f"{r.group:<16}{r.parameters:>15,}{r.trainable:>15,}  {r.dtype}".rstrip() for r in (*rows, total)]
    return "\n".join(lines)
