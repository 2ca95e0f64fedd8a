"""The tokenizer of a pretrained model: `data.tokenizer: from-model`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from unstuck.data.tokenizer import FILE_NAME, SubwordTokenizer, TextTokenizer
from unstuck.errors import UserError
from unstuck.models.hf_folder import is_run, model_folder

SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")


def tokenizer_of(path: str) -> TextTokenizer:
    """The tokenizer that lies with the model of `model.path`.

    Folders with a tokenizer.json are read as they are; older ones (vocab.json and merges.txt, vocab.txt, a
    sentence-piece file) are converted by transformers.

    Raises:
        UserError: there is no model, it has no tokenizer, or one that only Python code of its own could run.
    """
    return _of_folder(model_folder(path))


@cache
def _of_folder(folder: Path) -> TextTokenizer:
    if is_run(folder):
        from unstuck.train.start import checkpoint_of, tokenizer_file

        return TextTokenizer.load(tokenizer_file(checkpoint_of(str(folder))))
    document = (
        (folder / FILE_NAME).read_text(encoding="utf-8") if (folder / FILE_NAME).is_file() else _converted(folder)
    )
    origin, end = str(folder / FILE_NAME), _named_end(folder)
    guessed = SubwordTokenizer(document, origin)
    # Settings that name a token which the tokenizer has not are an oversight of who made the folder.
    return guessed if end is None or guessed.token_id(end) is None else SubwordTokenizer(document, origin, end)


def _named_end(folder: Path) -> str | None:
    """The end token that the folder's settings name: eos, or for BERT sep."""
    named: dict[str, Any] = {}
    for file in SETTINGS:
        try:
            content = json.loads((folder / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        named |= {k: v for k, v in content.items() if v} if isinstance(content, dict) else {}
    for use in ("eos_token", "sep_token"):
        token = named.get(use)
        name = token.get("content") if isinstance(token, dict) else token
        if isinstance(name, str):
            return name
    return None


def _converted(folder: Path) -> str:
    from transformers import AutoTokenizer

    from unstuck.models.hf_load import quiet

    try:
        with quiet():
            found: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        return str(found.backend_tokenizer.to_str())
    except Exception as error:  # noqa: BLE001 - each tokenizer class has errors of its own for missing files
        first = str(error).strip().partition("\n")[0][:200]
        raise UserError(
            f"{folder} has no tokenizer that can be read here ({first}); copy the model's tokenizer.json into it."
        ) from None
