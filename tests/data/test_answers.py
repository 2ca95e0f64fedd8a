import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.config.sections.answers import AnswersConfig
from unstuck.data.answers import AnswerData, prepare_answers
from unstuck.data.chat import CHAT_TOKENS, Turn, make_template
from unstuck.data.conversations import turns_of
from unstuck.data.prepare import IGNORED
from unstuck.data.questions import builtin_questions, first_sentence
from unstuck.data.tokenizer import CharacterTokenizer, SubwordTokenizer
from unstuck.errors import UserError

TEXT = ["What is a list? A mutable sequence of things. Why? Because Python says so. " * 20]
CHAT = SubwordTokenizer.train(TEXT, 300, CHAT_TOKENS)
PLAIN = SubwordTokenizer.train(TEXT, 300)


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def prepared(path: Path, tokenizer: SubwordTokenizer | CharacterTokenizer = CHAT, **settings: object) -> AnswerData:
    return prepare_answers(AnswersConfig(source=str(path), **settings), tokenizer=tokenizer)  # type: ignore[arg-type]


def questions(count: int, words: int = 3) -> list[object]:
    return [{"prompt": f"What is number {n}?", "response": f"{n} " + "is a thing " * words} for n in range(count)]


def learned(data: AnswerData, tokenizer: SubwordTokenizer, targets: np.ndarray) -> list[str]:
    return [tokenizer.decode(row[row != IGNORED]) for row in targets]


@pytest.mark.parametrize("tokenizer", [CHAT, PLAIN])
def test_the_answer_and_its_end_token_are_learned_and_nothing_else(tmp_path: Path, tokenizer: SubwordTokenizer) -> None:
    data = prepared(write(tmp_path / "qa.jsonl", questions(30)), tokenizer)
    inputs, targets = data.rows(np.arange(data.examples))
    for row_in, row_out, text in zip(inputs, targets, learned(data, tokenizer, targets), strict=True):
        ids = row_out[row_out != IGNORED]
        assert text.strip().endswith("is a thing")
        assert ids[-1] == tokenizer.end_of_text
        assert "What" not in text
        assert "What is number" in tokenizer.decode(row_in)
        # Shifted once: a target stands where its token comes next in the inputs.
        places = np.flatnonzero(row_out != IGNORED)
        assert np.array_equal(row_in[places[1:]], row_out[places[:-1]])


def test_padding_is_behind_the_example_and_never_a_target(tmp_path: Path) -> None:
    rows = [{"prompt": f"a{n}?", "response": "b" * (1 + 7 * n)} for n in range(20)]
    data = prepared(write(tmp_path / "qa.jsonl", rows))
    inputs, targets = data.rows(np.arange(data.examples))
    lengths = data.train.starts[1:] - data.train.starts[:-1] - 1
    assert inputs.shape[1] % 16 == 0
    for row_in, row_out, length in zip(inputs, targets, lengths, strict=True):
        assert (row_out[length:] == IGNORED).all()
        assert row_out[length - 1] == CHAT.end_of_text
        assert (row_in[length:] == CHAT.end_of_text).all()


def test_a_row_is_the_same_whatever_its_batch(tmp_path: Path) -> None:
    data = prepared(write(tmp_path / "qa.jsonl", questions(30)))
    alone, _ = data.rows(np.array([5]))
    together, _ = data.rows(np.arange(data.examples))
    length = alone.shape[1]
    assert np.array_equal(alone[0], together[5, :length])


def test_copies_of_a_prompt_are_never_on_both_sides_and_every_source_is_validated(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = [{"question": f"Why {n % 10}?", "answer": f"Because {n} {name}"} for n in range(40)]
        write(tmp_path / f"{name}.jsonl", rows)
    data = prepared(tmp_path)
    assert set(data.validation) == {"a", "b"}
    held_out = {c.turns[0].text for c in data.held_out}
    trained = [CHAT.decode(row) for row in data.rows(np.arange(data.examples))[0]]
    assert held_out
    assert not any(question in text for question in held_out for text in trained)


def test_conversations_under_one_system_prompt_are_split_by_their_questions(tmp_path: Path) -> None:
    def talk(n: int) -> object:
        said = (("system", "Be brief."), ("user", f"What is {n}?"), ("assistant", f"It is {n}."))
        return {"messages": [{"role": role, "content": text} for role, text in said]}

    data = prepared(write(tmp_path / "qa.jsonl", [talk(n) for n in range(100)]))
    assert (data.examples, len(data.held_out)) == (90, 10)


def test_a_folder_with_its_own_split_keeps_it(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", questions(20))
    write(tmp_path / "validation.jsonl", [{"prompt": "Held out?", "response": "Yes."}])
    data = prepared(tmp_path)
    assert data.examples == 20
    assert [c.turns[0].text for c in data.held_out] == ["Held out?"]


def test_a_long_prompt_loses_its_front_and_never_the_end_token(tmp_path: Path) -> None:
    rows = [{"prompt": "front " + "word " * 60 + f"tail{n}?", "response": "Short answer."} for n in range(10)]
    data = prepared(write(tmp_path / "qa.jsonl", rows), context=40)
    inputs, targets = data.rows(np.arange(data.examples))
    assert inputs.shape[1] <= 40
    marks = [CHAT.token_id(name) for name in ("<|user|>", "<|assistant|>")]
    for row_in, row_out in zip(inputs, targets, strict=True):
        assert row_in[0] == marks[0]
        assert marks[1] in row_in
        assert row_out[row_out != IGNORED][-1] == CHAT.end_of_text
        assert "tail" in CHAT.decode(row_in)
        assert "front" not in CHAT.decode(row_in)
    assert any("10 of 10 examples are longer" in note for note in data.notes)


def test_an_answer_that_does_not_fit_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = [*questions(20), {"prompt": "Why?", "response": "because " * 200}]
    data = prepared(write(tmp_path / "qa.jsonl", rows), context=60)
    assert any("1 of 21 examples was dropped" in note for note in data.notes)
    dropped = prepared(write(tmp_path / "b.jsonl", [*rows[:-1], {"prompt": "w " * 99, "response": "x"}]),
                       context=60, too_long="drop")  # fmt: skip
    assert any("1 of 21 examples was dropped" in note for note in dropped.notes)


def test_all_answers_of_a_conversation_are_learned_and_the_oldest_exchange_goes_first(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}]
    for n in range(4):
        talk += [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": f"Answer {n}."}]
    rows = [{"messages": [{**m, "content": f"{m['content']} {k}"} for m in talk]} for k in range(5)]
    path = write(tmp_path / "qa.jsonl", rows)
    data = prepared(path)
    _, targets = data.rows(np.arange(1))
    assert [f"Answer {n}." in learned(data, CHAT, targets)[0] for n in range(4)] == [True] * 4
    assert int((targets[0] == CHAT.end_of_text).sum()) == 4
    short, _ = prepared(path, context=60).rows(np.arange(1))
    assert "Answer 0." not in CHAT.decode(short[0])
    assert "Answer 3" in CHAT.decode(short[0])


def test_every_form_of_a_row_is_read() -> None:
    for row in (
        {"prompt": "Q", "response": "A"},
        {"prompt": "Q", "completion": "A"},
        {"question": "Q", "answer": "A"},
        {"instruction": "Q", "output": "A"},
        {"instruction": "Q", "input": "", "output": "A"},
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    ):
        assert turns_of(row, "line 1") == (Turn("user", "Q"), Turn("assistant", "A")), row
    assert turns_of({"instruction": "Q", "input": "I", "output": "A"}, "line 1")[0].text == "Q\n\nI"


def test_zero_is_an_answer_and_parts_of_text_are_joined() -> None:
    assert turns_of({"question": "What is 2 - 2?", "answer": 0}, "line 1")[1].text == "0"
    assert turns_of({"prompt": 0, "response": False}, "line 1") == (Turn("user", "0"), Turn("assistant", "False"))
    said = [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, {"role": "assistant", "content": "A"}]
    assert turns_of({"messages": said}, "line 1") == (Turn("user", "Q"), Turn("assistant", "A"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"prompt": "a", "response": "b"}\n{"prompt"', "line 2 is not JSON"),
        ('{"text": "a"}', "line 1 has the keys text"),
        ("[1, 2]", "line 1 has no object"),
        ('{"messages": [{"role": "parrot", "content": "a"}]}', "without a role"),
        ('{"prompt": "", "response": "b"}', "holds 0 questions"),
        ('{"prompt": "a", "response": ["b", "c"]}', "line 1 has a question or an answer that is no text"),
    ],
)
def test_rows_that_cannot_be_used_are_one_sentence_that_names_the_line(
    tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "qa.jsonl").write_text(content)
    with pytest.raises(UserError, match=words) as error:
        prepared(tmp_path / "qa.jsonl")
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no end-of-text token"):
        prepared(write(tmp_path / "qa.jsonl", questions(5)), CharacterTokenizer("abc"))
    with pytest.raises(UserError, match=r"data\.chat_tokens=true"):
        make_template("chat", PLAIN)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["<|endoftext|>", "<|user|>", "<|assistant|>", "a", " ", "</s>"]), max_size=6))
def test_names_of_special_tokens_in_a_question_are_text(parts: list[str]) -> None:
    template = make_template("chat", CHAT)
    ids = template.prompt([Turn("user", "".join(parts))])
    marks = {CHAT.token_id("<|user|>"), CHAT.token_id("<|assistant|>"), CHAT.end_of_text}
    assert [i for i in ids if i in marks] == [CHAT.token_id("<|user|>"), CHAT.token_id("<|assistant|>")]
    assert CHAT.decode(ids) == "".join(parts)


def test_names_of_a_foreign_tokenizers_own_special_tokens_are_text_too() -> None:
    foreign = SubwordTokenizer.train(TEXT, 300, ("<start_of_turn>", "[INST]"))
    marks = {foreign.token_id("<start_of_turn>"), foreign.token_id("[INST]")}
    text = "What is <start_of_turn>, and [INST]?"
    assert marks <= set(foreign.encode(text).tolist())  # read as they are, they would be
    ids = make_template("plain", foreign).encode(text)
    assert not marks & set(ids)
    assert foreign.decode(ids) == text


@pytest.mark.parametrize("tokenizer", [CHAT, PLAIN])
def test_a_prompt_gives_the_same_tokens_in_training_and_in_generation(tokenizer: SubwordTokenizer) -> None:
    template = make_template("auto", tokenizer)
    turns = [Turn("user", "What is a list?"), Turn("assistant", "A mutable sequence.")]
    whole = [i for segment in template.example(turns) for i in segment.ids]
    prompt = template.prompt(turns[:1])
    assert whole[: len(prompt)] == prompt
    assert whole[-1] == tokenizer.end_of_text


def test_chat_tokens_are_reserved_in_pretraining_and_cost_no_bytes() -> None:
    assert [CHAT.token_id(name) for name in CHAT_TOKENS] == [1, 2, 3]
    assert CHAT.vocabulary == PLAIN.vocabulary == 300
    assert CHAT.bytes_of_tokens()[:4].tolist() == [0, 0, 0, 0]


def test_builtin_questions_are_thousands_and_the_same_every_time() -> None:
    found = builtin_questions()
    assert len(found) > 2000
    assert {c.source for c in found} == {"purpose", "finding", "place"}
    assert builtin_questions() == found
    assert all(turn.text.strip() for c in found for turn in c.turns)


def test_no_trained_builtin_question_tells_the_answer_of_a_held_out_one() -> None:
    data = prepared("builtin")
    held_out = {c.topic for c in data.held_out}
    trained = "\n".join(turn.text for c in builtin_questions() if c.topic not in held_out for turn in c.turns)
    descriptions = [c.turns[1].text for c in data.held_out if c.source == "purpose"]
    assert len(descriptions) > 100
    assert not [text for text in descriptions if text in trained]


def test_the_first_sentence_ends_at_its_own_dot() -> None:
    assert first_sentence("Return os.path.join of both parts. More follows.") == "Return os.path.join of both parts."
    assert first_sentence("no sentence at all") is None
    assert first_sentence("Split over\ntwo lines it is.\n\nOther paragraph.") == "Split over two lines it is."


def test_the_same_answers_have_the_same_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.jsonl", questions(20))
    assert prepared(path).fingerprint == prepared(path).fingerprint
    assert prepared(path).fingerprint != prepared(path, validation_share=0.3).fingerprint
