"""Answers as Markdown: what a model means is shown, what an attacker means is text; plain text stays what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes import CITATION, ScriptedTier
from tests.serve_apps.console.visit import Browser, Gate, Visit, expect, visit
from tests.serve_apps.service import Service, on_socket

TAGS = "P BR HR STRONG EM DEL CODE PRE BLOCKQUOTE UL OL LI A H1 H2 H3 H4 H5 H6 TABLE THEAD TBODY TR TH TD"
OWN_TAGS = "DIV SPAN BUTTON svg path"  # frames of code blocks and markers: the page's own
ALLOWED = set(f"{TAGS} {OWN_TAGS}".split())
HOSTILE = [
    "<img src=x onerror=owned()>",
    "<script>owned()</script>",
    "<svg><script>owned()</script></svg>",
    "<svg/onload=owned()>",
    "<iframe srcdoc='<script>parent.owned()</script>'></iframe>",
    "<style>*{background:url(https://evil.example/x)}</style>",
    "<form action=https://evil.example><input name=password></form>",
    "<a href=javascript:owned()>click</a>",
    "[click](javascript:owned())",
    "[click](JaVaScRiPt&colon;owned())",
    "[click](data:text/html,<script>owned()</script>)",
    "[click](vbscript:owned())",
    "[click](/v1/models)",
    "![pixel](https://evil.example/pixel.png)",
    "![pixel](https://evil.example/x.png \"onerror=owned()\")",
    '[a](https://x.example/"onmouseover="owned())',
    "<https://x.example/\"onmouseover=\"owned()>",
    "[1]: javascript:owned()\n\n[1]",
    "[1](https://evil.example/source)",
    "```\"><img src=x onerror=owned()>\ncode\n```",
    "`<img src=x onerror=owned()>`",
    "| <img src=x onerror=owned()> |\n|---|\n| <script>owned()</script> |",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=owned()&gt;\">",
    "<noscript><p title=\"</noscript><img src=x onerror=owned()>\">",
    "<div id=composer><input name=attributes></div>",
    "&lt;img src=x onerror=owned()&gt;",
    "<a id=__proto__><form name=getElementById>",
    "\x00<\x00script>owned()</script>",
]  # fmt: skip
TREE = """nodes => nodes.map(n => [n.nodeName, Object.fromEntries([...n.attributes].map(a => [a.name, a.value]))])"""
DRAW = """async ([kind, text]) => {
  const made = (await import("/console/markdown.js"))[kind](text);
  const box = document.createElement("div");
  box.id = "box";
  box.className = "text";
  document.getElementById("box")?.remove();
  document.getElementById("turns").append(box);
  box.append(made);
}"""


@pytest.fixture(scope="module")
def seen(browser: Browser) -> Iterator[Visit]:
    with on_socket(Service().app()) as url:
        opened = visit(browser, url)
        opened.page.evaluate("() => { window.owned = () => { window.wasOwned = true; }; }")
        yield opened
        opened.page.close()


@pytest.fixture
def draw(seen: Visit) -> Callable[..., Any]:
    """Draws a text and returns the box it is in."""

    def drawn(text: str, kind: str = "rendered") -> Any:
        seen.page.evaluate(DRAW, [kind, text])
        return seen.page.locator("#box")

    return drawn


@pytest.mark.parametrize("kind", ["rendered", "sanitised"])
def test_hostile_texts(seen: Visit, draw: Callable[..., Any], kind: str) -> None:
    """Both lines of defence by themselves: the parser that knows no markup, and the allow list behind it."""
    for text in HOSTILE:
        nodes = draw(text, kind).locator("*")
        for name, attributes in nodes.evaluate_all(TREE):
            assert name in ALLOWED, text
            assert not [a for a in attributes if a.startswith("on") or a in {"style", "src", "action", "id"}], text
            if name == "A" and "href" in attributes:
                assert attributes["href"].startswith(("https://", "http://")), text
                assert (attributes["rel"], attributes["target"]) == ("noopener noreferrer", "_blank")
        nodes.evaluate_all("all => all.forEach((n) => n.dispatchEvent(new Event('mouseover', { bubbles: true })))")
    seen.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert not seen.page.evaluate("window.wasOwned")
    assert {request.url.split("/")[2] for request in seen.requests} == {seen.url.split("/")[2]}


@pytest.mark.parametrize(
    "text",
    [
        "__init__ and __main__ are names, so is _private_ here",
        "f(*args, **kwargs) calls g(*args)",
        "2*x*3 and a*b*c",
        r"C:\.venv\!x and \d+\. of a pattern",
        "it writes &amp; for & and &lt;b&gt; for <b>",
        "List<String> and <b>not bold</b>",
        "about ~5 to ~10 of them",
        "[x]: y",
    ],
)
def test_plain_text_stays_what_it_is(draw: Callable[..., Any], text: str) -> None:
    assert draw(text).inner_text() == text


def test_markdown_is_rendered(draw: Callable[..., Any]) -> None:
    box = draw(
        "# One\n\nSome **bold** and *slanted* ~~words~~, `code`.\nNext line.\n\n3. three\n4. four\n\n- [x] done\n\n"
        "| a | b |\n|--|:-:|\n| 1 | 2 |\n\n> said\n\n```python\nprint(1)\n```\n\nSee [here](https://x.example/a)."
    )
    for tag, text in [("h1", "One"), ("strong", "bold"), ("em", "slanted"), ("del", "words"), ("th >> nth=1", "b")]:
        expect(box.locator(tag)).to_have_text(text)
    expect(box.locator("p code")).to_have_text("code")
    assert box.locator("ol").get_attribute("start") == "3"
    assert box.locator("td").nth(1).get_attribute("align") == "center"
    expect(box.locator("ul li")).to_have_text("☑ done")
    expect(box.locator(".frame-head span").first).to_have_text("python")
    expect(box.locator("pre")).to_have_text("print(1)\n")
    link = box.get_by_role("link", name="here")
    assert (link.get_attribute("href"), link.get_attribute("title")) == ("https://x.example/a", "https://x.example/a")


def test_markers_are_markers_in_text_only(draw: Callable[..., Any]) -> None:
    box = draw("Said. [1] So [2](https://evil.example) `a[3]`\n\n```\nb[4]\n```")
    assert [m.inner_text() for m in box.locator(".marker").all()] == ["1", "2"]
    assert box.locator("code").all_inner_texts() == ["a[3]", "b[4]\n"]


@pytest.mark.parametrize("text", [">" * 19_999, "![" * 9_999, "[" * 19_999, "a" + " " * 19_999 + "b", "> " * 90_000])
def test_no_text_stops_the_page(seen: Visit, draw: Callable[..., Any], text: str) -> None:
    """Quadratic and deeply nested input is drawn in seconds, as plain text where the parser gives up."""
    seen.page.set_default_timeout(10_000)
    assert draw(text).locator("p").count() >= 1


def test_what_is_already_written_is_left_alone_while_more_arrives(browser: Browser) -> None:
    words = ["First paragraph, said early.\n\n", *(f"word{n} " for n in range(200)), "\n\nThe end. [1]"]
    gate = Gate(100)
    with on_socket(Service(tier=ScriptedTier(words, [CITATION], gate=gate)).app()) as url:
        seen = visit(browser, url)
        seen.ask("Streaming?")
        first = seen.page.locator("article.answer .text p").first
        expect(first).to_have_text("First paragraph, said early.")
        expect(seen.page.locator("article.answer .text p").nth(1)).to_contain_text("word3")
        first.evaluate("node => { node.kept = true; }")
        gate.open()
        expect(seen.page.locator("article.answer .text p").nth(1)).to_contain_text("word199")
        assert first.evaluate("node => node.kept"), "it was drawn anew although it had not changed"
        expect(seen.page.locator("article.answer .text p").last).to_have_text("The end. 1")
        expect(seen.page.get_by_role("button", name="Source 1: shutil.copytree")).to_be_enabled()
        seen.check_clean()
        seen.page.close()
