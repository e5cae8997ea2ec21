"""The engine's C++ (decode.cpp, attention.cpp), compiled once for this processor where there is a compiler.

It is compiled when an engine first wants it, which takes some seconds, and kept in the user's cache under a hash of
sources, flags, compiler and processor. Without a compiler everything goes through torch.
"""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch

log = logging.getLogger("vlm.engine")
SOURCES = [Path(__file__).with_name(name) for name in ("decode.cpp", "attention.cpp")]
HEADERS = [Path(__file__).with_name(name) for name in ("vectors.h", "threads.h", "products.h")]
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")


class Matrix(ctypes.Structure):
    """One matrix, as in products.h."""

    _fields_ = [("weight", c_void_p), ("scales", c_void_p), ("group", c_int64)]


def struct(name: str, **fields: str) -> type[ctypes.Structure]:
    """A struct of the C++ sources, its fields by type."""
    types = {"sizes": c_int64, "pointers": c_void_p, "floats": c_float, "matrices": Matrix}
    pairs = [(field, types[kind.rstrip("_")]) for kind, names in fields.items() for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": pairs})


@cache
def library() -> ctypes.CDLL | None:
    """The compiled code; None, and why in the log, where there can be none."""
    try:
        return build(SOURCES, HEADERS)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:  # RuntimeError: a user without a home
        reason = getattr(error, "stderr", None) or str(error)
        log.warning("the engine goes through torch: its passes could not be compiled (%s)", reason.split("\n")[0])
        return None


def build(sources: Sequence[Path], headers: Sequence[Path] = ()) -> ctypes.CDLL | None:
    """Sources as a library, compiled unless the cache has it; None where there is no compiler.

    Raises:
        OSError, RuntimeError, subprocess.CalledProcessError: there is one, but it, or the cache, does not work.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if not compiler or sys.platform != "linux":
        log.info("the engine goes through torch: no g++ is there to compile its passes")
        return None
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    processor = next(
        (x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith(("flags", "Features"))), ""
    )
    texts = [path.read_text() for path in (*sources, *headers)]
    parts = (*texts, str(FLAGS), version, processor, torch.__version__)
    name = hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gated-vlm"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (target := folder / f"engine-{name}.so").exists():
        log.info("compiling %s", ", ".join(path.name for path in sources))
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / "engine.so"
            openmp = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))  # torch's: one pool of threads
            command = [compiler, *FLAGS, *map(str, sources), *map(str, openmp), "-o", str(built)]
            subprocess.run(command, capture_output=True, text=True, check=True)
            built.replace(target)
    return ctypes.CDLL(str(target))
