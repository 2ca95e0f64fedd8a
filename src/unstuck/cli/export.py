"""Write a trained model as a folder that transformers (or peft) loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unstuck.errors import UserError

EXAMPLE = """
unstuck export runs/gpt2-qa-lora my-model/
unstuck export runs/gpt2-qa-lora my-adapter/ --adapter
unstuck export runs/gpt2-base/checkpoints/last base/
"""


def command(
    checkpoint: Annotated[Path, typer.Argument(help="a run folder (its best checkpoint) or a checkpoint")],
    folder: Annotated[Path, typer.Argument(help="a new or empty folder to write")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="the LoRA adapters alone, in peft's form; default: merged into the model")
    ] = False,
    last: Annotated[bool, typer.Option("--last", help="a run folder's last checkpoint instead of its best")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
) -> None:
    """Write the model of CHECKPOINT into FOLDER, with its tokenizer: config.json and model.safetensors.

    For runs of architecture gpt2, pretrained and ltg-bert. Logits stay the same: AutoModelForCausalLM (or MaskedLM)
    .from_pretrained(FOLDER); for ltg-bert, import unstuck.integrations.transformers first. Adapters load with
    peft.PeftModel.from_pretrained on the base model, exported or from the hub.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty, and nothing is overwritten; name a new folder.")

    from unstuck.models.hf_export import export
    from unstuck.train.load import load_checkpoint

    loaded = load_checkpoint(checkpoint, "last" if last else "best")
    export(loaded.model, loaded.tokenizer, folder, adapter=adapter)
    if as_json:
        import json

        print(json.dumps({"checkpoint": str(loaded.path), "folder": str(folder), "files": _files(folder)}))
    else:
        print(f"{loaded.path} is written to {folder}: {', '.join(_files(folder))}")


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
