"""Imports run one way: demo -> vlm -> {encoders, adapters} -> torch."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "encoders": {"encoders"},
    "adapters": {"adapters"},
    "vlm": {"vlm", "encoders", "adapters"},
    "demo": {"demo", "vlm"},
}
OURS = {*MAY_IMPORT, "benchmarks", "tests"}


def imported(path: Path) -> set[str]:
    """Top-level names of all imports of a file, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        wrong = imported(path) & OURS - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_adapters_and_encoders_need_torch_alone():
    allowed = {"torch", "safetensors", "timm", "open_clip", *sys.stdlib_module_names}
    for package in ("adapters", "encoders"):
        for path in (ROOT / package).rglob("*.py"):
            assert imported(path) <= allowed | {package}, path
