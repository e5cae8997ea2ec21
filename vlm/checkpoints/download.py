"""From a hub id to a folder, through the hub's own cache; every failure is one line with what to do."""

import os
import re
from pathlib import Path

from vlm.checkpoints.files import CheckpointError, one_line

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model"]


def find_folder(
    name_or_path: str | Path, revision: str | None = None, token: str | None = None, patterns: list[str] = HUB_FILES
) -> Path:
    """A folder as it is; a hub id through the hub's cache."""
    path = Path(name_or_path).expanduser()
    if path.exists() or not isinstance(name_or_path, str) or not HUB_ID.fullmatch(name_or_path):
        return path
    from huggingface_hub import errors as hub_errors
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name_or_path, revision=revision, token=token, allow_patterns=patterns, ignore_patterns=["*/*"]
        )  # fmt: skip
    except hub_errors.GatedRepoError:
        raise CheckpointError(
            f"{name_or_path}: the licence is not accepted for this account; accept it on "
            f"https://huggingface.co/{name_or_path} and give a token (HF_TOKEN or `hf auth login`)"
        ) from None
    except hub_errors.RevisionNotFoundError:
        raise CheckpointError(f"{name_or_path}: the hub has no revision {revision!r}; check its name") from None
    except hub_errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"{name_or_path}: neither a folder here nor a repository on the hub; check the spelling, "
            "or give a token if it is private"
        ) from None
    except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled, ConnectionError):
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise CheckpointError(
            f"{name_or_path}: neither a folder here nor in the cache, and {why}; "
            "go online, or give the folder of a download"
        ) from None
    except Exception as error:  # httpx and the file system raise whatever they run into
        raise CheckpointError(
            f"{name_or_path}: the download failed ({one_line(error)}); try again, it resumes"
        ) from None
    return Path(folder)
