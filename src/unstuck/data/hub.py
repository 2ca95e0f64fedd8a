"""`data.source=hub:OWNER/NAME[/CONFIG][:COLUMN]`: a data set of the Hugging Face hub, or a folder in its form.

The `datasets` library is imported only here. Nothing of a data set is executed: it has no way to since version 4, and
earlier versions are told not to.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unstuck.data.documents import TRAIN_NAMES, VALIDATION_NAMES, Corpus, Document, Part
from unstuck.errors import UserError

PREFIX = "hub:"
SAVED = ("dataset_info.json", "dataset_dict.json")  # what `save_to_disk` leaves in a folder
SECONDS_TO_ANSWER = 10.0  # assumption: a hub that can be used answers one small question in that time
USUAL_COLUMNS = ("text", "content", "document")


@dataclass(frozen=True, slots=True)
class HubName:
    """What a `hub:` source names.

    Attributes:
        where: OWNER/NAME, or the path of a folder here.
        config: the data set's configuration, where it has several.
        column: of the text.
        local: whether `where` is a folder here.
    """

    where: str
    config: str | None
    column: str | None
    local: bool

    @property
    def shown(self) -> str:
        """The last part of the name: the source that validation losses are reported by."""
        return Path(self.where).name


def parse_hub(source: str) -> HubName:
    """Read `hub:OWNER/NAME[/CONFIG][:COLUMN]` or `hub:FOLDER[:COLUMN]`.

    Raises:
        UserError: it is neither.
    """
    where, _, column = source.removeprefix(PREFIX).partition(":")
    if where and Path(where).expanduser().is_dir():
        return HubName(str(Path(where).expanduser()), None, column or None, True)
    owner, name, config, *more = (*where.split("/"), "", "")
    if not owner or not name or any(more):
        raise UserError(
            f"data.source={source} names no data set: write hub:OWNER/NAME, hub:OWNER/NAME:COLUMN or hub:FOLDER."
        )
    return HubName(f"{owner}/{name}", config or None, column or None, False)


def load_splits(name: HubName) -> dict[str, Any]:
    """The splits of a data set, each a `datasets.Dataset`.

    Without a network a data set that was loaded before comes from the library's cache.

    Raises:
        UserError: the library is missing, there is no network, or no such data set.
    """
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise UserError(
            "data.source=hub:... needs the datasets library: pip install datasets, or name a folder of text files."
        ) from None
    unreachable = None if name.local else _unreachable(name.where)
    try:
        if name.local and any((Path(name.where) / file).is_file() for file in SAVED):
            loaded = datasets.load_from_disk(name.where)
        else:
            with _offline(datasets.config, unreachable is not None):
                loaded = datasets.load_dataset(name.where, name.config)
    except datasets.exceptions.DatasetNotFoundError:
        raise UserError(f"The hub has no data set {name.where} that you may read; check the name.") from None
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if unreachable is not None:
            raise UserError(
                f"The Hugging Face hub cannot be reached ({unreachable}) and {name.where} is not in its cache here; "
                "download it where there is a network and name its folder: data.source=hub:FOLDER"
            ) from None
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The data set {name.where} could not be loaded ({first[:200]}): check the name and the network, or "
            "download it where there is one and name its folder: data.source=hub:FOLDER"
        ) from None
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _unreachable(where: str) -> str | None:
    """Why the hub does not answer; None where it does. Asked once: `datasets` asks six times over half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(where, timeout=SECONDS_TO_ANSWER)
    except (HfHubHTTPError, ValueError):  # an answer, or a name that is none: `datasets` says which
        return None
    except Exception as error:  # noqa: BLE001 - which errors a missing network raises depends on the HTTP library
        return type(error).__name__
    return None


@contextmanager
def _offline(settings: Any, wanted: bool) -> Iterator[None]:
    """`datasets` as with HF_HUB_OFFLINE=1 in the environment, which it reads only once."""
    before = settings.HF_HUB_OFFLINE
    settings.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE = before


def identity(name: HubName, splits: dict[str, Any]) -> str:
    """Changes when the data set changes: the library's own fingerprints, which cover the files or the commit."""
    prints = [f"{split}:{len(rows)}:{getattr(rows, '_fingerprint', '')}" for split, rows in sorted(splits.items())]
    return "\0".join([name.shown, name.column or "", *prints])


def part_of(split: str) -> Part | None:
    """The part a split's name says it is; None for a test split, which is left out."""
    low = split.lower()
    return "train" if low in TRAIN_NAMES else "validation" if low in VALIDATION_NAMES else None


def rows_by_part(splits: dict[str, Any]) -> tuple[list[tuple[Part | None, str, Any]], list[str]]:
    """(part, name, rows) of the splits to use, and notes. Part None: there is no split of its own, so one is drawn."""
    parts = {split: part_of(split) for split in splits}
    ready = {"train", "validation"} <= set(parts.values())
    used = [s for s in sorted(splits) if parts[s] is not None] or sorted(splits)
    left_out = sorted(set(splits) - set(used))
    notes = [f"The data set's {', '.join(left_out)} split is left out."] if left_out else []
    if ready:
        notes.append("The data set comes with its own validation split: data.validation_share has no effect.")
    return [(parts[s] if ready else None, s, splits[s]) for s in used], notes


def hub_corpus(name: HubName, splits: dict[str, Any]) -> Corpus:
    """One document for each row.

    Raises:
        UserError: no column of text, or the one named is not there.
    """
    used, notes = rows_by_part(splits)
    documents: list[Document] = []
    for part, split, rows in used:
        column = _text_column(name, rows)
        for index, text in enumerate(_texts(rows, column)):
            if text.strip():
                documents.append(Document(name.shown, f"{split}/{index:09d}", text.replace("\r\n", "\n"), part))
    if not documents:
        raise UserError(f"The data set {name.where} holds no text; name another one with data.source.")
    return Corpus(documents, notes)


def _texts(rows: Any, column: str) -> Iterator[str]:
    for row in rows.select_columns([column]):
        value = row[column]
        yield value if isinstance(value, str) else ""


def _text_column(name: HubName, rows: Any) -> str:
    columns = {column: getattr(feature, "dtype", "") for column, feature in rows.features.items()}
    strings = [column for column, kind in columns.items() if kind in ("string", "large_string")]
    wanted = name.column or next((c for c in USUAL_COLUMNS if c in strings), None)
    if wanted is None and len(strings) == 1:
        wanted = strings[0]
    if wanted in strings:
        return str(wanted)
    said = f"has no text column '{wanted}'" if wanted else "has several text columns"
    first = strings[0] if strings else "COLUMN"
    raise UserError(
        f"The data set {name.where} {said}, but {', '.join(strings) or 'no column of text at all'}: name one with "
        f"data.source={PREFIX}{name.where}:{first}"
    )
