"""Write a trained model as a folder that transformers (or peft) loads."""

from __future__ import annotations

import shlex
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
    from unstuck.train.checkpoint import find
    from unstuck.train.load import load_checkpoint

    loaded = load_checkpoint(checkpoint, "last" if last else "best")
    export(loaded.model, loaded.tokenizer, folder, adapter=adapter)
    base = _base(folder) if adapter else None
    if as_json:
        import json

        document = {"checkpoint": str(loaded.path), "folder": str(folder), "files": _files(folder)}
        print(json.dumps(document | ({} if base is None else {"base": base})))
        return
    print(f"{loaded.path} is written to {folder}: {', '.join(_files(folder))}")
    newest = find(checkpoint)
    if not last and newest is not None and newest.name != loaded.path.name:
        print(f"It is the run's best; the last checkpoint is {newest.name}, which --last exports.")
    if base is not None:
        print(_where(base))


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _base(folder: Path) -> str:
    """The base model that a written adapter names."""
    import json

    return str(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"])


def _where(base: str) -> str:
    """Where peft looks for an adapter's base model."""
    from unstuck.models.hf_folder import is_run

    if not Path(base).is_dir():
        return f"Its base model is {base} on the Hugging Face hub."
    if is_run(Path(base)):
        return f"Its base model is the run {base}; peft needs that exported: unstuck export {shlex.quote(base)} BASE"
    return f"Its base model is expected in {base}; adapter_config.json names that folder."
