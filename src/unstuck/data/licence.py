"""Takes distribution boilerplate off books: licences, headers and footers, production credits.

A model trained on books as they are downloaded learns the licence by heart: it stands in every one of them (incident
I0). Known here, by whole lines and never by a word inside a sentence: Project Gutenberg's forms since 1991 ("*** START
OF THE PROJECT GUTENBERG EBOOK", the "small print" of old etexts, "End of Project Gutenberg's ..."), those of its
Australian and Canadian sisters, and paragraphs with which the Internet Archive and Standard Ebooks open or close a
text. Files that hold several books one after another are cleaned book by book. What is not recognised is left alone:
a text without such lines comes back as it was, character for character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from unstuck.data.documents import Document
from unstuck.wording import plural

# Characters. Measured on the 24 books with a licence of shared/data/text/books: headers up to 3,043, footers up to
# 18,510, paragraphs of credits up to 173, no transcriber's notes, nothing behind a footer. Headers of 1990s etexts hold
# a small print of about 14,000. The limits are assumptions: room above what is known, and short beside a book, so that
# a mark that was misread cannot take much of one.
HEADER_LONGEST = 25_000
FOOTER_LONGEST = 30_000
CREDITS_LONGEST = 3_000  # of one paragraph of credits; and of a header that does not say what it is
CREDITS_PARAGRAPHS = 12
NOTES_LONGEST = 4_000  # transcriber's notes behind the text
REST_SHORTEST = 500  # less than this behind a footer is a rest of it
EVERY_FORM_HAS_ONE_OF = ("gutenberg", "ebook", "e-book", "etext", "e-text", "small print!", "digiti", "proofread")
WORD_OF_A_MARK = re.compile(r"gutenberg|small print!|full licen[cs]e|free ebooks|very few", re.IGNORECASE)
LINES = re.IGNORECASE | re.MULTILINE

HEADER_END = re.compile(
    r"^[^\w\n]*\*{3} ?START OF (?:THE|THIS|THE COPYRIGHTED) PROJECT GUTENBERG(?:[^*]{0,400}?\*{3}[^\w\n]*$|.*$)"
    r"|^\W{0,3}\*END ?\*? ?(?:OF )?THE SMALL PRINT!.*$"
    r"|^To contact Project Gutenberg (?:of )?Australia go to .*$(?:\n+-{10,}$)?"
    r"|^.{0,60}gutenberg\.net\.au/licen[cs]e\S*$(?:\n+To contact .*$)?"
    r"|^\W*This eBook is made available at no cost and with very few\n?[^\n]*restrictions(?:.+\n)+"
    r"(?:\s*^(?:Title|Author|Date|Illustrator|Translator|Editor|Edition|Faded Page|This eBook was produced by)\b.*$)*",
    LINES,
)
MASTHEAD = re.compile(
    r"^\W*(?:This is )?(?:The )?Project Gutenberg(?:'s|’s)? (?:E-?book|E-?text|of Australia E-?book)\b.*$"
    r"|^\W*A (?:Project Gutenberg of Australia|Distributed Proofreaders Canada) ebook\b.*$",
    LINES,
)
FOOTER_START = re.compile(
    r"^[^\w\n]*\*{3} ?END OF (?:THE|THIS|THE COPYRIGHTED) PROJECT GUTENBERG.*$"
    r"|^[^\w\n]*End of (?:the |this )?Project Gutenberg(?:'s|’s)?\b.*$"
    r"|^[^\w\n]*(?:\*{3} ?START: FULL LICENSE|THE FULL PROJECT GUTENBERG LICENSE).*$"
    r"|^[^\w\n]*START\**(?:THE )?SMALL PRINT!.*$"
    r"|^[^\w\n]*This site is full of FREE ebooks.*$",
    LINES,
)
OF_A_FOOTER = re.compile(r"Project\s+Gutenberg|gutenberg\.(?:org|net)|\bE-?(?:books?|texts?)\b", re.IGNORECASE)

# Paragraphs that are boilerplate wherever a text begins or ends with them ...
ALWAYS = re.compile(
    r"\W*(?:(?:The )?Project Gutenberg(?:'s|’s)? e-?(?:book|text)\b|this e-?(?:book|text) is for the use of anyone\b"
    r"|e-?text prepared by\b|digiti[sz]ed by (?:the internet archive|google)\b"
    r"|this ebook is the product of many hours of hard work by volunteers for\s+standard ebooks\b"
    r"|produced by (?:[^\n]*\n){0,4}?[^\n]*(?:distributed\s+proofread|pgdp|project gutenberg|internet archive))",
    re.IGNORECASE,
)
# ... and those that are so only beside boilerplate: a novel may begin "Produced by ..." or "Title: ...".
BESIDE = re.compile(
    r"\W*(?:produced by\b|(?:e-?text|html version|images?|scanned|transcribed|prepared)\b.{0,40}\b(?:by|from)\b"
    r"|(?:this|the) e-?(?:book|text|file)\b|transcriber(?:'s|’s|s'|s’|s)? notes?\b|project gutenberg\b"
    r"|(?:title|author|translator|illustrator|editor|release date|posting date|first posted|last updated|language"
    r"|credits|character set encoding|original publication)\s*:)",
    re.IGNORECASE,
)
NOTES_BEHIND = re.compile(r"^[ \t]*\W{0,3}transcriber(?:'s|’s|s'|s’|s)? notes?\b", LINES)

SUSPICIOUS = re.compile(
    r"gutenberg|electronic works?\b|\be-?texts?\b|\be-?books?\b|distributed\s+proofread|internet archive"
    r"|(?:full|this) licen[cs]e\b|licen[cs]e terms|terms of (?:use|the licen[cs]e|this agreement)|\btrademark"
    r"|www\.|http"
    r"|small print!|\bcopyright (?:law|status|holder)|\brefund\b|\bdonations\b|public domain",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text without its boilerplate, and how many characters that was."""

    text: str
    cut: int


def clean(text: str) -> Cleaned:
    """The text without what the module docstring names. Lines must end in \\n."""
    low = text.lower()
    if not any(word in low for word in EVERY_FORM_HAS_ONE_OF):
        return Cleaned(text, 0)
    # Matched only at the lines that hold a word of theirs: 30 times faster than a search through the whole text.
    lines = sorted({text.rfind("\n", 0, word.start()) + 1 for word in WORD_OF_A_MARK.finditer(text)})
    ends = [match for line in lines if (match := FOOTER_START.match(text, line))]
    headers = []
    for line in lines:
        if found_end := HEADER_END.match(text, line):
            behind = max((mark.end() for mark in ends if mark.end() <= line), default=0)
            headers.append(_header(text, found_end, behind))
    starts = [begin for begin, _ in headers]
    footers = [_footer(text, match, starts) for match in ends]
    kept, place = [], 0
    for begin, end in sorted(headers + footers):
        if begin > place:
            kept.append(text[place:begin])
        place = max(place, end)
    kept.append(text[place:])
    found = bool(headers or footers)
    bodies = [_without_credits(part, beside=found) for part in kept if part.strip()]
    if not found and (not bodies or bodies[0] == text):
        return Cleaned(text, 0)
    joined = "\n\n\n".join(body for body in bodies if body)
    return Cleaned(joined + "\n" if joined else "", len(text) - len(joined))


def clean_documents(documents: list[Document]) -> tuple[list[Document], list[str]]:
    """All documents without boilerplate, and a note on how much that was. Documents of nothing else are left out."""
    cleaned: list[Document] = []
    cuts: list[int] = []
    for document in documents:
        result = clean(document.text)
        if result.cut:
            cuts.append(result.cut)
        if result.text.strip():
            cleaned.append(replace(document, text=result.text) if result.cut else document)
    if not cuts:
        return documents, []
    characters = sum(len(document.text) for document in documents)
    return cleaned, [
        f"Licences and headers were cut from {len(cuts):,} of {plural(len(documents), 'document')}: {sum(cuts):,} of "
        f"{characters:,} characters ({min(cuts):,} to {max(cuts):,} each)."
    ]


def suspicious(text: str) -> list[str]:
    """The words in a text that boilerplate is made of: also books use some of them, so a hit is a question."""
    return [match.group() for match in SUSPICIOUS.finditer(text)]


def _header(text: str, found: re.Match[str], behind: int) -> tuple[int, int]:
    """Where the header begins that ends with this line: at its masthead, or where the text begins.

    Args:
        behind: the last mark of another book's footer, or 0.
    """
    masthead = MASTHEAD.search(text, max(behind, found.start() - HEADER_LONGEST), found.start())
    begin = found.start() if masthead is None else masthead.start()
    return (0 if not behind and begin < CREDITS_LONGEST else begin), found.end()


def _footer(text: str, found: re.Match[str], headers: list[int]) -> tuple[int, int]:
    """Where the footer ends that begins with this line: with the last paragraph that speaks of the distribution."""
    limit = min([len(text), found.end() + FOOTER_LONGEST, *(start for start in headers if start > found.start())])
    end = found.end()
    for words in OF_A_FOOTER.finditer(text, found.end(), limit):
        blank = text.find("\n\n", words.end(), limit)
        end = limit if blank < 0 else blank
    if len(text) - end < REST_SHORTEST:
        end = len(text)
    return found.start(), end


def _without_credits(body: str, *, beside: bool) -> str:
    """A book without the paragraphs of credits it begins with and the transcriber's notes behind it.

    Args:
        body: the text between header and footer.
        beside: a header or footer was found: weaker signs are enough.
    """
    known = (ALWAYS, BESIDE) if beside else (ALWAYS,)
    trimmed = body
    for _ in range(CREDITS_PARAGRAPHS):
        start = len(trimmed) - len(trimmed.lstrip())
        if not any(pattern.match(trimmed, start) for pattern in known):
            break
        end = _paragraph_end(trimmed, start)
        if end - start > CREDITS_LONGEST:
            break
        trimmed, known = trimmed[end:], (ALWAYS, BESIDE)
    if not beside and trimmed is body:
        return body
    trimmed = trimmed.strip("\n")
    for note in NOTES_BEHIND.finditer(trimmed, max(0, len(trimmed) - NOTES_LONGEST)):
        if note.start():  # a note is no whole book
            return trimmed[: note.start()].rstrip()
    return trimmed


def _paragraph_end(text: str, start: int) -> int:
    """The blank line that ends a paragraph; one in brackets ends with its bracket."""
    blank = text.find("\n\n", start)
    end = len(text) if blank < 0 else blank
    if text.startswith("[", start) and "]" not in text[start:end]:
        bracket = text.find("]", start)
        end = bracket + 1 if bracket >= 0 else end
    return end
