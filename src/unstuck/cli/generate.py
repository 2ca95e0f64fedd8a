"""Write text with a trained model, or talk to it."""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from unstuck.errors import UserError

if TYPE_CHECKING:
    from unstuck.data.chat import Template, Turn
    from unstuck.data.tokenizer import TextTokenizer
    from unstuck.evaluate.generate_sampling import Sampling

EXAMPLE = """
unstuck generate runs/factlm "It was a dark and stormy night"
unstuck generate runs/factlm --preset creative --samples 3 --max-tokens 300
unstuck generate runs/factlm < beginning.txt
unstuck generate runs/factlm-chat "What does json.dumps do?" --preset exact
unstuck generate runs/factlm-chat --chat
"""
DOCUMENT_START = "\n"  # for tokenizers without an end-of-text token, which else stands before every document
SILENCE_SECONDS = 2.0  # assumption: who pipes a prompt has begun to write when the model is loaded


def command(
    checkpoint: Annotated[Path, typer.Argument(help="a run folder (its best checkpoint) or a checkpoint")],
    prompt: Annotated[
        str | None,
        typer.Argument(help="text to go on from, or a question; without: what is piped in, or the start of a document"),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="exact (most probable token), balanced or creative; the options below change it")
    ] = "balanced",
    temperature: Annotated[float | None, typer.Option(help="divides the logits; 0: the most probable token")] = None,
    top_k: Annotated[int | None, typer.Option(help="only the k most probable tokens")] = None,
    top_p: Annotated[float | None, typer.Option(help="only the fewest tokens that sum to p; after top-k")] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(help="makes tokens of prompt and text, but the end token, less probable (1.2: CTRL's); 1: none"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="at most so many tokens")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="so many texts; text i is the same whatever their number")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="the same seed gives the same text")] = 0,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="the prompt is a question; without a prompt: a conversation, line by line; default: chat for models "
            "trained on answers",
        ),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="show tokens as they come")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
) -> None:
    """Write text with the model of CHECKPOINT, until its end token or --max-tokens.

    Order: repetition penalty, temperature, top-k, top-p, draw. Prompts longer than the model's context are read from
    their end, unless it remembers: then it reads all of them.
    """
    sampling = _sampling(preset, temperature, top_k, top_p, repetition_penalty)

    from unstuck.data.chat import CHAT_TOKENS, Turn, make_template, token_id
    from unstuck.evaluate.generate import reads_all
    from unstuck.train.load import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    tokenizer = loaded.tokenizer
    if tokenizer is None or loaded.config.task.kind != "causal":
        raise UserError(
            f"{checkpoint} is no causal language model, so it writes no text; name a run with task.kind=causal."
        )
    data = loaded.config.data
    if chat is None:
        chat = data.kind == "answers"
    template = make_template(getattr(data, "template", "auto"), tokenizer) if chat else None
    marks = [i for name in CHAT_TOKENS if (i := token_id(tokenizer, name)) is not None]
    writer = _Writer(loaded.model, tokenizer, sampling, max_tokens, seed, marks)
    if prompt is None and (template is None or as_json):  # a conversation reads it line by line
        prompt = _piped()
    if template is not None and prompt is None:
        if as_json:
            raise UserError("--json needs a prompt: unstuck generate CHECKPOINT 'QUESTION' --chat --json")
        _converse(writer, template)
        return
    ids = _document(tokenizer, prompt) if template is None else template.prompt([Turn("user", prompt or "")])
    if len(ids) > writer.context and not reads_all(loaded.model):
        print(f"The prompt has {len(ids)} tokens; the model reads the last {writer.context}.", file=sys.stderr)
    if as_json:
        _print_json(writer, prompt, ids, samples, sampling)
    elif samples == 1 and stream:
        if template is None and prompt:
            print(prompt, end="", flush=True)
        writer.show(ids)
    else:
        for index, text in enumerate(writer.texts(ids, samples)):
            heading = f"--- {index + 1} ---\n" if samples > 1 else ""
            print(heading + (f"{prompt or ''}{text['text']}" if template is None else text["text"].strip()))


def _piped() -> str | None:
    """The text on standard input without its last line end; None where nobody pipes any.

    A program that starts others (an agent, a scheduler) may leave them a pipe that it never writes to nor closes: one
    that stays silent is no prompt.
    """
    try:
        if sys.stdin is None or sys.stdin.isatty() or _is_silent(sys.stdin):
            return None
        text = sys.stdin.read()
        text.encode()  # other bytes may come as surrogates, which no tokenizer takes
    except UnicodeError:
        raise UserError("What is piped in is not UTF-8 text; pipe text, or give PROMPT behind CHECKPOINT.") from None
    except (OSError, ValueError):  # closed, or open for writing only, as nohup leaves it
        return None
    return text.removesuffix("\n").removesuffix("\r") or None


def _is_silent(stream: TextIO) -> bool:
    """Whether nothing comes through a pipe for a while; never of a file, nor of what is no file of the system."""
    try:
        readable, _, _ = select.select([stream.fileno()], [], [], SILENCE_SECONDS)
    except (OSError, ValueError):
        return False
    return not readable


def _sampling(
    preset: str, temperature: float | None, top_k: int | None, top_p: float | None, repetition_penalty: float | None
) -> Sampling:
    """The preset with the options that were given."""
    from dataclasses import replace

    from unstuck.evaluate.generate_sampling import PRESETS

    if preset not in PRESETS:
        raise UserError(f"There is no preset '{preset}'; try --preset {', '.join(PRESETS)}.")
    given = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
    }
    return replace(PRESETS[preset], **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


def _document(tokenizer: TextTokenizer, prompt: str | None) -> list[int]:
    """A prompt as the beginning of a document."""
    start = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    ids = start + [int(i) for i in tokenizer.encode(prompt or "")]
    return ids or [int(i) for i in tokenizer.encode(DOCUMENT_START, skip_unknown=True)] or [0]


class _Writer:
    """The model with everything that stays the same between prompts."""

    def __init__(
        self, model: Any, tokenizer: TextTokenizer, sampling: Sampling, max_tokens: int, seed: int, marks: list[int]
    ) -> None:
        import torch

        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.tokenizer = tokenizer
        self.context = int(model.context)
        self.end = tokenizer.end_of_text
        self.options: dict[str, Any] = {
            "sampling": sampling, "max_tokens": max_tokens, "end": self.end, "seed": seed, "forbidden": marks,
        }  # fmt: skip

    def texts(self, ids: list[int], samples: int) -> list[dict[str, Any]]:
        """So many completions of one prompt."""
        from unstuck.evaluate.generate import complete

        return [
            {
                "text": self.tokenizer.decode(row.tokens),
                "tokens": len(row.tokens),
                "ended_by": "end token" if row.ended else "max tokens",
            }
            for row in complete(self.model, [ids] * samples, **self.options)
        ]

    def show(self, ids: list[int]) -> str:
        """Print a completion as it comes; returns its text."""
        from unstuck.evaluate.generate import TextStream, stream

        text = TextStream(self.tokenizer)
        for step in stream(self.model, [ids], **self.options):
            token = step[0][1]
            if token != self.end:
                print(text.add(token), end="", flush=True)
        print(text.rest())
        return self.tokenizer.decode(text.tokens)


def _converse(writer: _Writer, template: Template) -> None:
    """Answer the lines of standard input, each with what was said before in view, until its end."""
    from unstuck.data.chat import Turn

    turns: list[Turn] = []
    if sys.stdin.isatty():
        print("Ask; an empty line begins a new conversation, Ctrl-D ends.", file=sys.stderr)
    for line in sys.stdin:
        if not line.strip():
            turns = []
            continue
        turns.append(Turn("user", line.strip()))
        while len(turns) > 1 and len(template.prompt(turns)) > writer.context:
            turns = turns[2:]  # the oldest question and its answer
        turns.append(Turn("assistant", writer.show(template.prompt(turns)).strip()))


def _print_json(writer: _Writer, prompt: str | None, ids: list[int], samples: int, sampling: Sampling) -> None:
    import json
    from dataclasses import asdict

    started = time.perf_counter()
    texts = writer.texts(ids, samples)
    seconds = time.perf_counter() - started
    document = {
        "prompt": prompt,
        "prompt_tokens": len(ids),
        "samples": texts,
        "sampling": asdict(sampling) | {"seed": writer.options["seed"], "max_tokens": writer.options["max_tokens"]},
        "seconds": round(seconds, 3),
        "tokens_per_second": round(sum(text["tokens"] for text in texts) / seconds, 1),
    }
    print(json.dumps(document, indent=1))
