"""Tiers that are any other language model: numbered passages in, free text with [n] markers out.

The model is told to answer from the passages only, to mark what it takes from where, and to say so where they hold no
answer. What it writes is not trusted to be grounded: a text without a valid marker is passed on as ungrounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cluster.core.records import Answer, Citation
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval
from train_jobs.answering.abstention import support
from train_jobs.answering.citations import cite
from train_jobs.answering.quote import UNKNOWN
from train_jobs.answering.select import ranked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOT_KNOWN = "I do not know."
INSTRUCTION = (
    "Answer the question from the numbered passages only, in at most three sentences. After each statement write the "
    "number of its passage in brackets, like [1]. If the passages do not answer the question, write only: "
    f"{NOT_KNOWN}"
)
# What a chat template may set turns apart with: <|im_end|>, <start_of_turn>, [/INST], <<SYS>>.
_MARKUP = re.compile(r"<{1,2}[|/]?[A-Za-z_][\w|/ -]{0,30}>{1,2}|\[/?[A-Z_]{2,24}\]")
# The same where nobody can look at the template: what those of well-known models use.
_KNOWN_MARKUP = re.compile(
    r"<[|｜][^<>\n]{1,40}[|｜]>|<</?SYS>>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|</?s>|<(?:start_of_turn|end_of_turn|bos|eos|pad|unk)>"
)
_MARKER = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
REFUSAL = re.compile(
    r"^\W*(?:sorry\W+)?(?:i (?:do not|don['’]t|cannot|can['’]t) (?:know|answer|find|tell)"
    r"|the (?:passages?|documents?|texts?) (?:do|does) not|(?:there is )?no (?:answer|information))\b",
    re.IGNORECASE,
)


def chat_prompt(
    question: str, retrieval: Retrieval, tokenizer: PreTrainedTokenizerBase, section: AnswerSection, room_tokens: int
) -> tuple[str, Retrieval]:
    """The prompt, and the retrieval with just the passages it shows, in the order of their numbers.

    Args:
        tokenizer: the model's own; its chat template is used where it has one. Its control tokens are written as
            text in question and passages, so that a document cannot end its own turn.
        room_tokens: most tokens of the whole prompt (and ``section.prompt_tokens``, if less). Passages that do not fit
        are
            left out, the lowest first; the best one is cut if it must be.
    """
    clean = as_text(tokenizer)

    def tokens(content: str) -> int:
        return len(tokenizer.encode(templated(tokenizer, content), add_special_tokens=False))

    content, shown = _laid_out(question, retrieval, clean, tokens, min(room_tokens, section.prompt_tokens))
    return templated(tokenizer, content), shown


def chat_messages(
    question: str, retrieval: Retrieval, section: AnswerSection, room_tokens: int, count: Callable[[str], int]
) -> tuple[list[dict[str, str]], Retrieval]:
    """The same for a model whose tokenizer is elsewhere: its turns, of ``role`` and ``content``.

    Args:
        count: about how many tokens a text has. Any markup of turns that is known is written as text.
    """
    room = min(room_tokens, section.prompt_tokens) - count(INSTRUCTION)
    content, shown = _laid_out(question, retrieval, _apart(_KNOWN_MARKUP), count, room)
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": content}], shown


def _laid_out(
    question: str, retrieval: Retrieval, clean: Callable[[str], str], tokens: Callable[[str], int], room: int
) -> tuple[str, Retrieval]:
    """Numbered passages, as many as there is room for, and the question."""
    asked = clean(question)
    order = [one.passage for one in ranked(retrieval)]

    def content(passages: list[str]) -> str:
        numbered = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(passages, 1))
        return f"Passages:\n\n{numbered}\n\nQuestion: {asked}"

    texts: list[str] = []
    for passage in (retrieval.passages[place] for place in order):
        text = clean(f"{passage.title}: {' '.join(passage.text.split())}")
        if tokens(content([*texts, text])) > room:
            if texts:
                break
            text = _cut(text, lambda shorter: tokens(content([shorter])) <= room)
        texts.append(text)
    return content(texts), retrieval.only(order[: len(texts)])


def text_answer(question: str, shown: Retrieval, said: str, section: AnswerSection) -> Answer:
    """The answer a model wrote about the passages it was shown, markers renumbered in order of use.

    Markers of passages that do not exist, or beyond ``section.max_citations``, are taken out of the text. Not grounded
    where the model says that it does not know (``model_abstained``) or cites nothing (``uncited``).
    """
    confidence = support(question, shown, section.min_confidence).probability
    said = said.strip()
    if not shown.passages:
        return Answer(UNKNOWN, grounded=False, reason="no_passages", confidence=confidence)
    if not said or REFUSAL.match(said):
        return Answer(said or UNKNOWN, grounded=False, reason="model_abstained", confidence=confidence)
    used: list[int] = []

    def renumbered(match: re.Match[str]) -> str:
        kept = []
        for number in (int(part) for part in match.group(1).split(",")):
            if not 1 <= number <= len(shown.passages):
                continue
            if number not in used:
                if len(used) == section.max_citations:
                    continue
                used.append(number)
            kept.append(used.index(number) + 1)
        return "".join(f"[{number}]" for number in dict.fromkeys(kept))

    text = re.sub(r"\s+([.,;:!?])", r"\1", _MARKER.sub(renumbered, said)).strip()
    citations: tuple[Citation, ...] = tuple(cite(shown.passages[number - 1]) for number in used)
    if not citations:
        return Answer(text, grounded=False, reason="uncited", confidence=confidence)
    return Answer(text, citations, True, "supported", confidence)


def templated(tokenizer: PreTrainedTokenizerBase, content: str, instruction: str = INSTRUCTION) -> str:
    """The instruction and the content as this model was taught to read them."""
    if not getattr(tokenizer, "chat_template", None):
        return f"{instruction}\n\n{content}\nAnswer:"
    from jinja2.exceptions import TemplateError

    def turns(messages: list[dict[str, str]]) -> str:
        made: Any = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return str(made)

    try:
        return turns([{"role": "system", "content": instruction}, {"role": "user", "content": content}])
    except TemplateError:  # this one knows no system turn
        return turns([{"role": "user", "content": f"{instruction}\n\n{content}"}])


def as_text(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], str]:
    """Writes a text so that nothing in it is a control token, nor the markup of turns in the tokenizer's template
    (``[INST]`` is no token everywhere): a blank stands behind the first character of each, so it can still be read."""
    marks = {str(token) for token in tokenizer.all_special_tokens}
    marks |= {token for token in map(str, getattr(tokenizer, "added_tokens_encoder", {})) if re.search(r"[<\[]", token)}
    marks |= set(_MARKUP.findall(str(getattr(tokenizer, "chat_template", None) or "")))
    found = sorted((mark for mark in marks if mark.strip()), key=lambda mark: (-len(mark), mark))
    return _apart(re.compile("|".join(map(re.escape, found))) if found else None)


def _apart(pattern: re.Pattern[str] | None) -> Callable[[str], str]:
    """Writes a text so that the pattern is found nowhere in it."""

    def clean(text: str) -> str:
        if pattern is not None:
            text = pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
            while pattern.search(text):  # one character, or one that has this blank itself
                text = pattern.sub(" ", text)
        return text.strip()

    return clean


def _cut(text: str, fits: Callable[[str], bool]) -> str:
    """As many words of the text as fit (perhaps none)."""
    words = text.split()
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(" ".join(words[:middle])) else (low, middle - 1)
    return " ".join(words[:low])
