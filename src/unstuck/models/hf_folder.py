"""Where a pretrained model lies: `model.path` as a folder on this machine, and what its config.json says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from unstuck.data.hub import SECONDS_TO_ANSWER
from unstuck.errors import UserError

CONFIG = "config.json"
# What a model needs; `*/*` leaves out other formats that lie in subfolders (onnx, coreml).
WANTED = ("*.json", "*.txt", "*.model", "*.safetensors")
PICKLED = "pytorch_model*.bin"
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

Objective = Literal["causal", "masked"]


def model_folder(path: str) -> Path:
    """The folder of `model.path`; a name on the hub is downloaded once into the Hugging Face cache.

    Raises:
        UserError: there is no such folder or name, or no way to the hub.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"model.path={path} is a file; name the folder that holds config.json and the weights.")
    if path.startswith((".", "/", "~")) or not HUB_NAME.fullmatch(path) or folder.parts[0] == "runs":
        hint = f"unstuck train {folder.name}:quick" if folder.name == "gpt2-base" else "ls " + str(folder.parent)
        raise UserError(f"There is no folder {path} for model.path; make it or mend the name: {hint}")
    return _from_hub(path)


def is_run(folder: Path) -> bool:
    """Whether the folder is one of our runs or checkpoints rather than a model in Hugging Face form."""
    return not (folder / CONFIG).is_file() and ((folder / "config.yaml").is_file() or (folder / "state.json").is_file())


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        UserError: there is none, or it is no model's.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} holds an adapter without its model; merge the two first (peft: merge_and_unload), or name the "
            "base model with model.path and train a new adapter."
        )
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no config.json, so it is no model in Hugging Face form; name the folder that "
            "save_pretrained wrote, or export a run: unstuck export RUN FOLDER"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}/config.json cannot be read ({error}); copy the model again.") from None
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise UserError(f"{folder}/config.json names no model_type, so it is no model's; name another folder.")
    return content


def objective_of(folder: Path) -> Objective:
    """What the model in a folder was pretrained for: the next token, or tokens that were hidden.

    A BERT loads as a causal model too, without a causal mask: it would read its own targets. So the class that was
    saved decides, and the type of model only where config.json names no class.

    Raises:
        UserError: neither; or config.json is not a model's.
    """
    if is_run(folder):
        return "causal"
    content = read_config(folder)
    names = [str(name) for name in content.get("architectures") or []]
    if any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in names):
        return "masked"
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return "causal"
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = content["model_type"]
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not content.get("is_decoder"):
        return "masked"
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal"
    raise UserError(
        f"{folder} is a model of type {kind} ({', '.join(names) or 'no class named'}), neither a causal nor a masked "
        "language model; set model.path to one of these."
    )


def fit_task(path: str, task: str) -> None:
    """Refuses a model that was pretrained for another task than the recipe's.

    Raises:
        UserError: it was; names the task it fits.
    """
    objective = objective_of(model_folder(path))
    if objective != task:
        raise UserError(
            f"model.path={path} was pretrained as a {objective} language model and cannot learn task.kind={task}; set "
            f"task.kind={objective}, or name another model."
        )


def _from_hub(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        if (folder / CONFIG).is_file() and _weights(os.listdir(folder)):
            return folder
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError, ValueError):
        pass  # not in the cache, or not whole: ask the hub
    try:
        files = [file.rfilename for file in HfApi().model_info(name, timeout=SECONDS_TO_ANSWER).siblings or []]
        wanted = [*WANTED, *([] if any(f.endswith(".safetensors") and "/" not in f for f in files) else [PICKLED])]
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403, 404):
            raise UserError(
                f"model.path={name} is neither a folder here nor a model that the hub shows you; mend the name, or log "
                "in first where it is a private one: hf auth login"
            ) from None
        raise UserError(f"The hub did not give {name} ({error}); try again later, or name a folder.") from None
    except Exception as error:  # noqa: BLE001 - which errors a missing network raises depends on the HTTP library
        raise UserError(
            f"model.path={name} is no folder here and the Hugging Face hub cannot be reached "
            f"({type(error).__name__}); fetch it where there is a network (hf download {name} --local-dir FOLDER) and "
            "set model.path=FOLDER."
        ) from None


def _weights(names: list[str]) -> bool:
    return any(name.endswith((".safetensors", ".bin")) for name in names)
