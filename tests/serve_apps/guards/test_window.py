"""Text leaves a stream only redacted, wherever the stream was cut."""

from __future__ import annotations

import base64
import itertools
import json
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve_apps.gateway.stop_sequences import Shaper
from serve_apps.gateway.token_counts import RegexTokenCounter
from serve_apps.guards.personal import LONGEST, PersonalDataGuard, personal_spans
from serve_apps.guards.window import OutputWindow, Placeholders

HOLD_BACK = LONGEST + 8
WORDS = "the function returns a copy of every item in this list unless told otherwise and raises an error".split()  # noqa: SIM905


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TOKEN = ".".join([_part({"alg": "HS256"}), _part({"sub": list(range(120))}), "s3cr3tsignature" * 5])
KEY_LINES = [base64.b64encode(bytes([n] * 48)).decode() for n in range(14)]
KEY = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *KEY_LINES, "-----END RSA PRIVATE KEY-----"])
# Whole values, and the parts of each that must not be seen.
SECRETS = {
    "jane.doe@mail.acme.io": ["jane.doe", "acme.io"],
    "4111 1111 1111 1111": ["4111 1111", "1111 1111"],
    "DE89 3704 0044 0532 0130 00": ["3704 0044", "0532 0130"],
    "+49 170 1234567": ["170 1234567"],
    TOKEN: [TOKEN[:40], TOKEN[200:240], TOKEN[400:440], "s3cr3tsignature"],
    KEY: [KEY_LINES[0], KEY_LINES[7], KEY_LINES[13]],
    "sk-proj-" + "a1B2" * 40: ["a1B2a1B2"],
}
FILLER = st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join)


def streamed(text: str, cuts: list[int]) -> list[str]:
    """The pieces that leave when ``text`` arrives cut at ``cuts`` and each arrival is checked."""
    window, out = OutputWindow(HOLD_BACK, Placeholders()), []
    edges = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    for begin, end in itertools.pairwise(edges):
        window.push(text[begin:end])
        out.append(window.release(PersonalDataGuard().check_output([window.text()])[0].spans, final=False))
    out.append(window.release(PersonalDataGuard().check_output([window.text()])[0].spans, final=True))
    return out


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(FILLER, st.sampled_from(sorted(SECRETS))), min_size=1, max_size=3),
    FILLER,
    st.lists(st.integers(0, 2_000), max_size=30),
)
@example([("x", KEY)], "y " * 200, list(range(0, 2_000, 7)))
@example([("x", TOKEN)], "y " * 200, list(range(0, 2_000, 13)))
def test_nothing_personal_leaves_wherever_the_stream_is_cut(
    parts: list[tuple[str, str]], end: str, cuts: list[int]
) -> None:
    text = " ".join([word for part in parts for word in part] + [end])
    whole = "".join(streamed(text, []))
    for split in (cuts, list(range(len(text)))) if len(text) < 300 else (cuts,):
        out = "".join(streamed(text, split))
        for _, secret in parts:
            for piece in SECRETS[secret]:
                assert piece not in out
        # Only the number of a finding that was announced before all of it was there may differ.
        assert re.sub(r"_\d+>", ">", out) == re.sub(r"_\d+>", ">", whole), "the cuts changed what the client reads"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.lists(st.integers(0, 400), max_size=20))
def test_clean_text_arrives_complete_and_unchanged(text: str, cuts: list[int]) -> None:
    window = OutputWindow(HOLD_BACK, Placeholders())
    window.push(text)
    seen = window.text()
    if personal_spans(seen) or any(c not in " \n\t\r" and not c.isascii() for c in text):
        return  # joiners may see other neighbours when a cut falls between them
    assert "".join(streamed(text, cuts)) == seen


def test_text_flows_before_the_end() -> None:
    pieces = streamed(" ".join(WORDS * 20), list(range(0, 2_000, 20)))
    assert len("".join(pieces[:-1])) > 1_000


def test_text_without_spaces_flows_too() -> None:
    pieces = streamed("列表中的每个元素" * 100, list(range(0, 800, 20)))
    assert len("".join(pieces[:-1])) > 500


def test_the_same_value_keeps_its_placeholder() -> None:
    text = f"jane.doe@mail.acme.io {'word ' * 100} bob@mail.acme.io {'word ' * 100} jane.doe@mail.acme.io"
    out = "".join(streamed(text, list(range(0, 2_000, 11))))
    assert out.count("<EMAIL_1>") == 2
    assert out.count("<EMAIL_2>") == 1


def test_invisible_characters_cannot_stretch_a_finding_over_the_window() -> None:
    hidden = "jane.doe" + "\u200b" * 500 + "@mail.acme.io and so on"
    out = "".join(streamed(hidden, list(range(0, 600, 10))))
    assert out == "<EMAIL_1> and so on"


def shaped(text: str, cuts: list[int], limit: int | None, stops: tuple[str, ...]) -> tuple[str, str | None]:
    shaper, out = Shaper(RegexTokenCounter(), limit, stops), ""
    edges = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    for begin, end in itertools.pairwise(edges):
        out += shaper.feed(text[begin:end])
    return out + shaper.feed("", final=True), shaper.finish


@settings(max_examples=40)
@given(st.text("ab .", max_size=40), st.lists(st.integers(0, 40)), st.text("ab.", min_size=1, max_size=3))
def test_stop_sequences_hold_across_cuts(text: str, cuts: list[int], stop: str) -> None:
    out, finish = shaped(text, cuts, None, (stop,))
    assert out == text.split(stop)[0]
    assert finish == ("stop" if stop in text else None)


@settings(max_examples=40)
@given(st.text("ab .,", max_size=40), st.lists(st.integers(0, 40)), st.integers(1, 10))
def test_the_token_limit_holds_across_cuts(text: str, cuts: list[int], limit: int) -> None:
    out, finish = shaped(text, cuts, limit, ())
    tokens = RegexTokenCounter()
    assert tokens.count(out) == min(limit, tokens.count(text))
    assert (finish == "length") == (tokens.count(text) > limit)
    assert text.startswith(out)
