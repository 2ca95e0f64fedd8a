"""Measure a trained model: validation loss, perplexity and bits per byte, BLiMP, or a roll-out of fields."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstuck.errors import UserError

if TYPE_CHECKING:
    from unstuck.evaluate.blimp import BlimpResult
    from unstuck.train.load import Loaded

EXAMPLE = """
unstuck evaluate runs/ltg-bert
unstuck evaluate runs/ltg-bert --blimp blimp/data --limit 100
unstuck evaluate models/gpt2 --blimp blimp/data
unstuck evaluate models/gpt2 --data my-texts/
unstuck evaluate runs/navier-stokes --rollout 10 --html rollout.html
"""


def command(
    checkpoint: Annotated[
        Path, typer.Argument(help="a run folder (its best checkpoint), a checkpoint, or a model in Hugging Face form")
    ],
    blimp: Annotated[
        Path | None, typer.Option("--blimp", metavar="DIR", help="score BLiMP's minimal pairs (folder of .jsonl files)")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="with --blimp: so many pairs of each paradigm")] = None,
    score: Annotated[
        str,
        typer.Option(
            help="with --blimp: masked (pseudo-log-likelihood), causal (log-likelihood), both, or auto: all that the "
            "model was trained for"
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="draws the pairs of --limit")] = 1,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="text to measure the loss on instead of the run's own")
    ] = None,
    rollout: Annotated[
        int | None,
        typer.Option(metavar="STEPS", min=1, help="neural operators: so many steps ahead on their own predictions"),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="with --rollout: errors and fields as one page")
    ] = None,
    which: Annotated[str, typer.Option(help="best or last checkpoint of a run folder")] = "best",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
) -> None:
    """Measure the model of CHECKPOINT on its own validation data, or on BLiMP.

    Losses are nats per token over all validation tokens, in float32. BLiMP: share of pairs whose good sentence is the
    likelier one, a tie is half; chance is 50 %. Operators: relative errors on the validation and on the test
    trajectories.
    """
    if which not in ("best", "last"):
        raise UserError(f"--which is best or last, not '{which}'.")
    if html is not None and rollout is None:
        raise UserError("--html draws a roll-out: unstuck evaluate CHECKPOINT --rollout 10 --html FILE")
    if rollout is not None:
        from unstuck.evaluate.rollout import evaluate_rollout

        rolled = evaluate_rollout(_load(checkpoint, which), rollout, html)
        print(_json(rolled.to_json()) if as_json else rolled.lines())
        if html is not None and not as_json:
            print(f"Report: {html}")
        return
    if blimp is None:
        if limit is not None:
            raise UserError("--limit is for BLiMP: unstuck evaluate CHECKPOINT --blimp DIR --limit N")
        document = _losses(checkpoint, which, data)
        print(_json(document) if as_json else _loss_lines(document))
        return
    results = _blimp(checkpoint, which, blimp, limit, seed, score)
    if as_json:
        print(_json({"checkpoint": str(checkpoint), "blimp": [r.document() for r in results]}))
    else:
        _print_blimp(results)


def _json(document: Any) -> str:
    """JSON proper, which has no number for infinity: "inf", "nan"."""
    from unstuck.json_ready import json_ready

    return json.dumps(json_ready(document), indent=1)


def _load(path: Path, which: str) -> Loaded:
    """A run's model, or one in Hugging Face form."""
    from unstuck.train.load import load_checkpoint

    if not (path / "config.json").is_file():
        return load_checkpoint(path, which)
    from unstuck.models.hf_tokenizer import tokenizer_of
    from unstuck.models.pretrained import Pretrained
    from unstuck.train.load import Loaded

    config = _pretrained_config(path, None)
    tokenizer = tokenizer_of(str(path))
    model = Pretrained(config.model, vocabulary=tokenizer.vocabulary, context=2)
    return Loaded(config, model.eval(), tokenizer, path)


def _pretrained_config(path: Path, source: str | None) -> Any:
    """A recipe for a folder in Hugging Face form."""
    from unstuck.config.schema import Config
    from unstuck.models.hf_folder import objective_of

    objective = objective_of(path)
    data = {"kind": "text", "source": source or "builtin", "tokenizer": "from-model", "context": 128}
    task = {"kind": objective} | ({"causal_share": 0.0} if objective == "masked" else {})
    return Config.model_validate(
        {"data": data, "task": task, "model": {"architecture": "pretrained", "path": str(path)}}
    )


def _losses(path: Path, which: str, source: str | None) -> dict[str, Any]:
    """Validation loss and what follows from it."""
    from contextlib import nullcontext

    import torch

    from unstuck.train import checkpoint, tasks
    from unstuck.train.start import tokenizer_file, with_tokenizer
    from unstuck.train.tasks.masked import Masked
    from unstuck.train.tasks.task import Share

    of_run = not (path / "config.json").is_file()
    if not of_run and source is None:
        raise UserError(f"{path} is a model without a run, so there is no text of its own; name one: --data SOURCE")
    loaded = _load(path, which)
    config = loaded.config
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"max_tokens": None})})
    if source is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"source": source})})
    of_characters = getattr(config.data, "tokenizer", None) == "char"
    # The run's own ids. Characters are a function of the text, so other ones are another text, as is said below.
    if of_run and loaded.tokenizer is not None and (source is not None or not of_characters):
        config = with_tokenizer(config, tokenizer_file(loaded.path))
    task = tasks.make(config, torch.device("cpu"), Share())
    if source is None and checkpoint.read_state(loaded.path)["fingerprint"] != task.fingerprint:
        raise UserError(
            f"The data of {config.data.source} are no longer those that {loaded.path} was trained and validated on; "
            f"put the old ones back, or measure on what is there now: --data {config.data.source}"
        )
    result = task.validate(loaded.model, nullcontext)
    document: dict[str, Any] = {
        "checkpoint": str(loaded.path),
        "unit": task.unit,
        "loss": result.loss,
        "targets": result.targets,
        "by_source": result.by_source,
        "bits_per_byte": result.bits_per_byte,
        "further": result.further,
    }
    if task.tokenizer is not None:
        document["perplexity"] = result.perplexity
    limit = loaded.config.evaluation.max_tokens
    if source is None and limit is not None:
        # what the limit counts: of masked text all tokens, of which those that are hidden are targets
        whole = sum(map(len, task.data.validation.values())) if isinstance(task, Masked) else result.targets
        if limit < whole:
            document["training_max_tokens"] = limit
    if (test := getattr(task, "test", None)) is not None:  # held out from validation too
        tested = test(loaded.model, nullcontext)
        document["test"] = {"loss": tested.loss, "targets": tested.targets, "further": tested.further}
    return document


def _loss_lines(document: dict[str, Any]) -> str:
    from unstuck.wording import plural

    per_byte = document["bits_per_byte"]
    lines = [f"{document['checkpoint']}: validation loss {document['loss']:.4f} {document['unit']}"]
    if "perplexity" in document:
        lines[0] += f", perplexity {document['perplexity']:,.2f}"
    if per_byte is not None:
        lines[0] += f", {per_byte:.4f} bits per byte"
    lines[0] += f", over {plural(document['targets'], 'target')}"
    by_source = document["by_source"]
    if len(by_source) > 1:
        width = max(map(len, by_source))
        perplexities = "perplexity" in document
        for source, loss in by_source.items():
            bits = document["further"].get(f"bits_per_byte/{source}")
            lines.append(
                f"  {source:<{width}}  {loss:.4f}"
                + (f"  perplexity {math.exp(min(loss, 700)):,.2f}" if perplexities else "")
                + ("" if bits is None else f"  {bits:.4f} bits per byte")
            )
    rest = {k: v for k, v in document["further"].items() if not k.startswith("bits_per_byte/")}
    lines += [f"  {name}  {value:.4f}" for name, value in rest.items()]
    if (tested := document.get("test")) is not None:
        lines.append(f"test loss {tested['loss']:.4f} {document['unit']}, over {plural(tested['targets'], 'target')}")
        lines += [f"  {name}  {value:.4f}" for name, value in tested["further"].items()]
    if (limit := document.get("training_max_tokens")) is not None:
        lines.append(
            f"These are all validation targets; training measured, and chose its best on, a sample of them "
            f"(evaluation.max_tokens={limit})."
        )
    return "\n".join(lines)


def _blimp(path: Path, which: str, folder: Path, limit: int | None, seed: int, score: str) -> list[BlimpResult]:
    from unstuck.evaluate.blimp import SCORE_WISHES, evaluate_blimp, read_blimp

    if score not in SCORE_WISHES:
        raise UserError(f"--score is {', '.join(SCORE_WISHES)}, not '{score}'.")
    paradigms = read_blimp(folder, limit, seed)

    import torch

    from unstuck.evaluate.blimp_models import scorers

    loaded = _load(path, which)
    if loaded.tokenizer is None:
        raise UserError(f"{path} is no language model, so it scores no sentences; name a run with a text task.")
    if torch.cuda.is_available():
        loaded.model.to("cuda")
    share = getattr(loaded.config.task, "causal_share", 0.0)
    found = scorers(loaded.model, loaded.tokenizer, causal_share=share)
    missing = {"both": {"masked", "causal"}, "auto": set()}.get(score, {score}) - found.keys()
    if missing:
        raise UserError(f"{path} was not trained for --score {score}; it has {' and '.join(found)}: use --score auto")
    if score in found:
        found = {score: found[score]}
    results = evaluate_blimp(paradigms, found)
    return [r for r in results if score != "both" or r.score == "both"]


def _print_blimp(results: list[BlimpResult]) -> None:
    """A line for each paradigm (accuracy and interval of each way of scoring, per cent), then the means."""
    from unstuck.evaluate.blimp import PARADIGMS
    from unstuck.wording import plural

    width = max(len(p.name) for p in results[0].paradigms)
    print(f"{'paradigm':<{width}}" + "".join(f"  {r.score + ' (95 %)':>20}" for r in results))
    for rows in zip(*(r.paradigms for r in results), strict=True):
        cells = [f"{100 * p.accuracy:.1f} ({100 * p.interval[0]:.1f}-{100 * p.interval[1]:.1f})" for p in rows]
        print(f"{rows[0].name:<{width}}" + "".join(f"  {cell:>20}" for cell in cells))
    for result in results:
        low, high = result.interval
        fields = ", ".join(f"{field} {100 * value:.1f}" for field, value in result.fields.items())
        print(
            f"\n{result.score}: {100 * result.mean:.2f} % is the mean of {plural(len(result.paradigms), 'paradigm')} "
            f"(95 %: {100 * low:.2f}-{100 * high:.2f}; chance 50)\n"
            f"  {plural(result.pairs, 'pair')}, {plural(result.ties, 'tie')}, each counted as half; fields: {fields}"
        )
    if len(results[0].paradigms) != PARADIGMS:
        print(f"\nBLiMP has {PARADIGMS} paradigms: these means are of a part.")
