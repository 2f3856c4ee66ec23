"""What is visible comes out: constructs of the formats beside those of ``constructs``, each with what it must show."""

# ruff: noqa: E501 (a construct a line)
from __future__ import annotations

import json

import pytest

from tests.data_jobs.extractors import made
from tests.data_jobs.extractors.constructs import _NS, _box, _cell, _p, _r, _relations, _run, _t, _tbl, _tc
from tests.data_jobs.extractors.made import documents, read

HEAD = "<!doctype html><meta charset=utf-8><title>T</title><body>"
XHTML = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>T</title></head><body>'
PAD = "<!-- pad -->" * 600
BYTES = "QUJDREVG" * 20


def shown(name: str, data: bytes) -> str:
    """The text of all documents of a file."""
    return "\n".join(document.text for document in documents(read(name, data)))


PAGES = {
    "a cell down to the end": (HEAD + "<table><tr><td rowspan=0>ALL<td>b<tr><td>c<tr><td>d</table>", ["ALL | b", "ALL | c", "ALL | d"], []),
    "a cell ends with its part of the table": (HEAD + "<table><tbody><tr><td rowspan=9>A<td>b<tbody><tr><td>c<td>d</table>", ["A | b", "\nc | d"], []),
    "a wide cell": (HEAD + "<table><tr><th>A<th>B<th>C<tr><td colspan=2>wide<td>last</table>", ["wide |  | last"], []),
    "a wide cell of rows": (HEAD + "<table><tr><td rowspan=2 colspan=2>blk<td>x<tr><td>y</table>", ["blk |  | x\nblk |  | y"], []),
    "shadow root": (HEAD + "<my-card><template shadowrootmode=open><p>shade</p></template>light</my-card>", ["shade", "light"], []),
    "template": (HEAD + "<template><p>tpl</p></template>x", ["x"], ["tpl"]),
    "labels of options": (HEAD + "<select><optgroup label=Grp><option>o1<option label=lab2></option></select>", ["Grp", "o1", "lab2"], []),
    "buttons": (HEAD + "<input type=submit value='Send now'><input type=image alt=altimg><input placeholder='Your name'><input type=password value=pw><input type=checkbox value=box>", ["Send now", "altimg", "Your name"], ["pw", "box"]),
    "area of a picture": (HEAD + "<map><area alt=areaalt></map>x", ["areaalt"], []),
    "text in a table outside of cells": (HEAD + "<table>loose<p>fostered</p><tr><td>c<td>d</table>", ["loose", "fostered", "c | d"], []),
    "text behind the end": (HEAD + "<p>in</body></html><p>behind</html>end", ["in", "behind", "end"], []),
    "text that a search opens": (HEAD + "<div hidden=until-found>found</div><div hidden>gone</div>", ["found"], ["gone"]),
    "CDATA of XHTML": (XHTML + "<p>a <![CDATA[cd<b>x]]> b</p></body></html>", ["a cd<b>x b"], []),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_pages(name: str) -> None:
    page, wanted, unwanted = PAGES[name]
    text = shown("a.xhtml" if page.startswith(XHTML) else "a.html", page.encode())
    assert [said for said in wanted if said not in text] == []
    assert [said for said in unwanted if said in text] == []


GERMAN = "<html><head><title>T</title></head><body><p>Grüße aus Köln</p></body></html>"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.html", f"<head>{PAD}<meta charset=windows-1251></head><p>Привет мир".encode("cp1251"), "Привет мир"),
        (
            "a.xhtml",
            ('<?xml version="1.0" encoding="ISO-8859-2"?>' + XHTML + "<p>Zażółć gęślą").encode("iso8859-2"),
            "Zażółć",
        ),
        *(
            (f"a.{kind}", GERMAN.encode(codec), "Grüße aus Köln")
            for kind in ("html", "txt")
            for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        ),
        ("a.csv", "Name;Größe\nMüller;1,80\n".encode("utf-16-le"), "Größe: 1,80"),
        ("a.jsonl", '{"text": "Köln"}\n{"text": "zwei"}\n'.encode("utf-16-be"), "Köln\nzwei"),
        ("a.ipynb", made.notebook().decode().encode("utf-16-le"), "Boiled in 3 minutes"),
        ("a.txt", "Text aus Köln".encode("utf-16") + b"\0", "Text aus Köln"),
    ],
)
def test_encodings_that_are_declared_late_or_not_at_all(name: str, data: bytes, said: str) -> None:
    assert said in shown(name, data)


def test_samples_of_sound_are_no_text_in_wide_characters() -> None:
    assert documents(read("a.txt", bytes(n % 7 if n % 2 == 0 else 0 for n in range(4000)))) == []


TEXTS = {
    "comment in a span of code": ("Use `<!-- keep -->` and `` `<!--x-->` ``.", ["<!-- keep -->", "<!--x-->"], []),
    "comment in indented code": ("text\n\n    <!-- keep -->\n\nend", ["<!-- keep -->"], []),
    "comment in a list": ("- a\n\n    <!-- gone -->\n\n- b", ["- b"], ["gone"]),
    "comment in a quoted fence": ("> ```html\n> <!-- keep -->\n> ```\n\n<!-- gone -->x", ["<!-- keep -->", "x"], ["gone"]),
    "fence in a comment": ("<!--\n```\ngone\n```\n-->\nseen", ["seen"], ["gone"]),
    "half a fence in a comment": ("<!--\n```\n-->\nseen <!-- gone -->\n\n```\n<!-- keep -->\n```\n", ["seen", "<!-- keep -->"], ["gone"]),
    "code in a comment": ("<!-- run `gone` -->seen `kept`", ["seen `kept`"], ["gone"]),
    "bytes of a source": (f'<picture><source srcset="data:image/png;base64,{BYTES} 1x"><img alt="pic" src="x.png"></picture>', ["pic"], [BYTES]),
    "bytes of a style": (f'<div style="background:url(data:image/png;base64,{BYTES})">seen</div>', ["seen"], [BYTES]),
    "remark": ('[//]: # (gone)\n\n[comment]: <> "gone"\nseen\n\n    [//]: # (keep)\n\n[1]: # (x) y', ["seen", "[//]: # (keep)", "[1]: # (x) y"], ["gone"]),
    "picture in a span of code": (f"write `![a](data:image/png;base64,{BYTES})`", [BYTES], []),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_markdown(name: str) -> None:
    source, wanted, unwanted = TEXTS[name]
    text = shown("a.md", source.encode())
    assert [said for said in wanted if said not in text] == []
    assert [said for said in unwanted if said in text] == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('{"text": {"en": "english", "de": "deutsch"}}', "english\ndeutsch"),
        ('{"content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}', "one\ntwo"),
        ('{"a": 1e400, "b": 0.1234567890123456789, "c": 1e22}', "a: 1e400\nb: 0.1234567890123456789\nc: 1e+22"),
        ('{"a": %s}' % ("9" * 5000), "a: " + "9" * 5000),
        ('{"a": "first", "b": 2, "a": "second"}', "a: second\nb: 2\na 2: first"),
        ('[{"text": "one"},\n{"text": "two"}]', "one\ntwo"),
        ('[\n{"text": "one"},\n{"text": "two"}\n]\n', "one\ntwo"),
        ('{\n  "text": "one",\n  "b": {\n    "c": 1\n  }\n}\n{\n  "text": "two"\n}\n', "one\ntwo"),
        ('[\n  {\n    "text": "one"\n  },\n  {\n    "text": "two"\n  }\n]\n', "one\ntwo"),
        ('\x1e{"text": "one"}\n\x1e{"text": "two"}\n', "one\ntwo"),
    ],
)  # fmt: skip
def test_records(source: str, said: str) -> None:
    assert shown("a.jsonl", source.encode()) == said
    assert len(read("a.jsonl", source.encode())) == len(documents(read("a.jsonl", source.encode())))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("Name, first;Age\nMüller, Hans;30\n", "Name, first: Müller, Hans\nAge: 30"),
        ('"sep=;"\na;b\n1;2\n', "a: 1\nb: 2"),
        ("# made by x\n# date\na,b\n1,2\n", "# made by x\n# date\na: 1\nb: 2"),
        ("Report 2024\n\nname,value\nx,1\ny,2\n", "Report 2024\nname: x\nvalue: 1\nname: y\nvalue: 2"),
        ("#,name\n1,x\n2,y\n", "#: 1\nname: x\n#: 2\nname: y"),
        ("size\n1,5\n2,5\n3,5\n", "size: 1,5\nsize: 2,5\nsize: 3,5"),
        ("text\nHello, you\nGood\n", "Hello, you\nGood"),
        ('a, b\n1, "x, y"\n', "a: 1\nb: x, y"),
    ],
)  # fmt: skip
def test_tables(source: str, said: str) -> None:
    assert shown("a.csv", source.encode()) == said


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("text/html", "<table><tr><th>A<th>B<tr><td>1<td>2</table>", "A | B\n1 | 2"),
        ("text/latex", "$\\alpha$", "$\\alpha$"), ("application/json", {"k": "value"}, '"k": "value"'),
    ],
)  # fmt: skip
def test_outputs_of_notebooks_that_have_one_form_only(kind: str, data: object, said: str) -> None:
    cell = {"cell_type": "code", "source": "x", "outputs": [{"output_type": "display_data", "data": {kind: data}}]}
    assert said in shown("a.ipynb", json.dumps({"cells": [cell], "nbformat": 4}).encode())


def test_notebooks_say_their_language_in_one_of_two_places() -> None:
    cells = [{"cell_type": "code", "source": "x", "outputs": []}]
    for metadata in ({"kernelspec": {"language": "julia"}}, {"language_info": {"name": "julia"}}):
        data = json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4}).encode()
        assert shown("a.ipynb", data) == "```julia\nx\n```"


# -- Word --------------------------------------------------------------------------------------------------------------
def package(body: str, parts: dict[str, tuple[str, bytes | str]] | None = None) -> bytes:
    """A Word file; ``parts`` by name: kind of relation and content. The first has the relation ``rId1``."""
    kinds = [(kind, name) for name, (kind, _) in (parts or {}).items()]
    document = f"<w:document {_NS}><w:body>{body}</w:body></w:document>"
    return made.zipped(
        [
            ("_rels/.rels", _relations([("officeDocument", "word/document.xml")])),
            ("word/document.xml", document.encode()),
            ("word/_rels/document.xml.rels", _relations(kinds)),
            *(
                (f"word/{name}", data.replace("{ns}", _NS).encode() if isinstance(data, str) else data)
                for name, (_, data) in (parts or {}).items()
            ),
        ]
    )


def _choice(inner: str, instead: str) -> str:
    return f'<mc:AlternateContent><mc:Choice Requires="x">{inner}</mc:Choice><mc:Fallback>{instead}</mc:Fallback></mc:AlternateContent>'


def _drawing(inner: str) -> str:
    return _p(
        _r(
            f"<w:drawing><wp:inline><a:graphic><a:graphicData>{inner}</a:graphicData></a:graphic></wp:inline></w:drawing>"
        )
    )


def _sym(font: str, *codes: str) -> str:
    return _p("".join(_r(f'<w:sym w:font="{font}" w:char="{code}"/>') for code in codes))


def _begin(form: str) -> str:
    return _r(f'<w:fldChar w:fldCharType="begin"><w:ffData>{form}</w:ffData></w:fldChar>')


EMOJI = '<w16se:symEx xmlns:w16se="q" w16se:font="Segoe UI Emoji" w16se:char="1F60A"/>'
ROW = f"<w:tr>{_cell('m')}{_cell('n')}</w:tr>"
END = _r('<w:fldChar w:fldCharType="end"/>')
WORDS = {
    "deleted cell": (_tbl(_tc(_p(_run("gone")), "<w:cellDel/>") + _cell("b") + _cell("c")), ["b | c"], ["gone"]),
    "alternative runs": (_p(_choice(_run("this"), _run("that"))), ["this"], ["that"]),
    "alternatives in a run": (_p(_r(_choice(_t("this"), _t("that")))), ["this"], ["that"]),
    "alternative rows": (f"<w:tbl>{_choice(ROW, '')}<w:tr>{_cell('o')}{_cell('p')}</w:tr></w:tbl>", ["m | n\no | p"], []),
    "alternative emoji": (_p(_r(_choice(EMOJI, _t("😊")))), ["😊"], ["😊😊"]),
    "emoji alone": (_p(_r(EMOJI)), ["😊"], []),
    "signs of a symbol font": (_sym("Symbol", "F061", "F0B0", "F0B1", "F0A3", "F0AE", "F0B7"), ["α°±≤→•"], []),
    "signs of other fonts": (_sym("Arial", "00E9") + _sym("Wingdings", "F0FC"), ["é", "✓"], []),
    "run in a symbol font": (_p(_r('<w:rPr><w:rFonts w:ascii="Symbol"/></w:rPr>' + _t("\uf061\uf0b0"))), ["α°"], []),
    "field that nothing ends": (_p(_r('<w:fldChar w:fldCharType="begin"/>') + _r("<w:instrText>PAGE</w:instrText>")) + _p(_run("after")), ["after"], ["PAGE"]),
    "list of a form": (_p(_run("Choose: ") + _begin('<w:ddList><w:result w:val="1"/><w:listEntry w:val="one"/><w:listEntry w:val="two"/></w:ddList>') + END), ["Choose: two"], ["one"]),
    "box of a form": (_p(_begin("<w:checkBox><w:checked/></w:checkBox>") + END + _run(" agreed")), ["☒ agreed"], []),
    "row that begins further right": (
        _tbl(_cell("A") + _tc(_p(_run("M")), '<w:vMerge w:val="restart"/>') + _cell("C"), '<w:trPr><w:gridBefore w:val="1"/></w:trPr>' + _tc(_p(""), "<w:vMerge/>") + _cell("D")), ["M | D"], []),
    "wide cell": (_tbl(_cell("A") + _cell("B") + _cell("C"), _tc(_p(_run("w")), '<w:gridSpan w:val="2"/>') + _cell("x")), ["w |  | x"], []),
    "text as a drawing": (_p(_r('<w:pict><v:shape><v:textpath string="Art"/></v:shape></w:pict>')), ["Art"], []),
    "text of a drawing": (_drawing("<a:sp><a:txBody><a:p><a:r><a:t>drawn</a:t></a:r></a:p></a:txBody></a:sp>"), ["drawn"], []),
    "box in a hidden run's paragraph": (_p(_run("a") + _box("boxed")), ["a\n\nboxed"], []),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_word(name: str) -> None:
    body, wanted, unwanted = WORDS[name]
    text = shown("a.docx", package(body))
    assert [said for said in wanted if said not in text] == []
    assert [said for said in unwanted if said in text] == []


STYLES = (
    '<w:styles {ns}><w:style w:styleId="Hid"><w:rPr><w:vanish/></w:rPr></w:style>'
    '<w:style w:styleId="Son"><w:basedOn w:val="Hid"/></w:style>'
    '<w:style w:styleId="Not"><w:basedOn w:val="Hid"/><w:rPr><w:vanish w:val="0"/></w:rPr></w:style></w:styles>'
)


def test_styles_hide_what_is_written_in_them_and_in_those_based_on_them() -> None:
    hidden = _p(
        '<w:pPr><w:pStyle w:val="Son"/></w:pPr>'
        + _run("gone ")
        + _r('<w:rPr><w:vanish w:val="0"/></w:rPr>' + _t("kept"))
    )
    body = (
        hidden
        + _p(_r('<w:rPr><w:rStyle w:val="Son"/></w:rPr>' + _t("out")))
        + _p('<w:pPr><w:pStyle w:val="Not"/></w:pPr>' + _run("in"))
    )
    (found,) = documents(read("a.docx", package(body, {"styles.xml": ("styles", STYLES)})))
    assert found.text == "kept\n\nin"
    assert "skipped:hidden:2" in found.steps


MESSAGE = b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n<p>Gr\xfc\xdfe</p>"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("c.html", "<meta charset=windows-1252><p>Größe".encode("cp1252"), "Größe"), ("c.htm", "<p>Größe".encode("utf-16"), "Größe"),
        ("c.mht", MESSAGE, "Grüße"), ("c.txt", "Größe".encode(), "Größe"), ("c.docx", package(_p(_run("inner"))), "inner"),
    ],
)  # fmt: skip
def test_built_in_files(name: str, data: bytes, said: str) -> None:
    body = _p(_run("before")) + '<w:altChunk r:id="rId1"/>' + _p(_run("after"))
    assert shown("a.docx", package(body, {name: ("aFChunk", data)})) == f"before\n\n{said}\n\nafter"


@pytest.mark.parametrize(("name", "data"), [("c.rtf", b"{\\rtf1 x}"), ("c.docx", b"no zip"), ("c.html", b"")])
def test_built_in_files_that_cannot_be_read_cost_themselves(name: str, data: bytes) -> None:
    body = _p(_run("before")) + '<w:altChunk r:id="rId1"/>'
    (found,) = documents(read("a.docx", package(body, {name: ("aFChunk", data)})))
    assert (found.text, found.steps) == ("before", ("skipped:embedded:1",))


def test_charts_of_both_kinds() -> None:
    title = (
        "<c:title><a:p><a:r><a:t>Chart</a:t></a:r><a:r><a:t>Title</a:t></a:r></a:p></c:title><c:pt><c:v>42</c:v></c:pt>"
    )
    newer = "<x:s xmlns:x='q'><x:pt>Cat</x:pt><x:title><x:tx><x:v>Newer</x:v></x:tx></x:title></x:s>"
    body = _drawing('<c:chart r:id="rId1"/>') + _drawing('<c:chart r:id="rId2"/>')
    parts: dict[str, tuple[str, bytes | str]] = {
        "c1.xml": ("chart", f"<c:chartSpace {{ns}}>{title}</c:chartSpace>"),
        "c2.xml": ("chartEx", newer),
    }
    assert shown("a.docx", package(body, parts)) == "ChartTitle\n42\n\nCat\nNewer"
