"""What each format can say, construct by construct, with a planted word for each; and files made of them.

A construct's ``source`` has ``{}`` where its word goes. ``lost`` are those that no reader sees, or that are left out on
purpose; everything else is to come out, ``times`` times, in the order in which it stands here. This list is what the
extractors promise: whoever finds a construct that is missing adds it.
"""

# ruff: noqa: E501 (a construct a line)
from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data_jobs.extractors import made
from tests.data_jobs.extractors.pdf_files import raw_pdf


@dataclass(frozen=True)
class Construct:
    """One thing that a format can say."""

    name: str
    source: str
    lost: bool = False
    times: int = 1


C = Construct
Word = Callable[[str], str]


def word(number: int) -> str:
    """A word that is in no other text: letters only, nothing that redaction or normalising would touch."""
    letters = ""
    for _ in range(6):
        number, rest = divmod(number, 20)
        letters = "bcdfghjklmnpqrstvwxz"[rest] + letters
    return f"marka{letters}o"


PICTURE = base64.b64encode(bytes(range(200)) * 4).decode()

PLAIN = (
    C("first line", "{} begins the file"), C("a rule of signs", "=====\n{} after a rule"), C("indented", "    {} deep"),
    C("something like front matter", "---\n\n{} between rules\n\n---"), C("a form feed", "before\f{} after"),
    C("a stray NUL byte", "the valve\0 of {} " + "and so on " * 12), C("long line", " ".join(f"item{n}" for n in range(400)) + " {}"),
    C("a zero-width space", "zero\u200b{}"), C("a non-breaking blank", "ten\u00a0{}"), C("last line", "{} without an end"),
)  # fmt: skip

MARKDOWN = (
    C("front matter", "---\ntitle: A guide\nauthor: {}\n---", lost=True),
    C("heading", "# Guide of {}"), C("underlined heading", "Part {}\n------"), C("paragraph", "A {} paragraph."),
    C("rule", "---\n\nBetween {} rules.\n\n---"), C("emphasis", "some *{}* here"), C("strong", "some **{}** here"),
    C("code span", "call `{}` now"), C("span of three", "```{}``` in a line"), C("strike", "~~{}~~"),
    C("link", "[{}](https://a.example)"), C("reference link", "[{}][ref]\n\n[ref]: https://a.example"),
    C("autolink", "<https://a.example/{}>"), C("list", "- one {}"), C("ordered list", "3. three {}"),
    C("task", "- [ ] do {}"), C("nested list", "- a\n  - b {}"), C("quotation", "> {} said"),
    C("table", "| a | b |\n|---|---|\n| x | {} |"), C("fence", "```bash\n# {}\nrun\n```"),
    C("tilde fence", "~~~\n{}\n~~~"), C("longer fence", "````md\n```\n{}\n```\n````"), C("indented code", "    {} x"),
    C("html block", "<div>\n{}\n</div>"),
    C("details", "<details><summary>{}</summary>more</details>"), C("entity", "a &amp; {}"), C("footnote", "[^1]: {}"),
    C("picture by address", "![{}](a.png)"), C("picture in the text", f"![{{}}](data:image/png;base64,{PICTURE})"),
    C("picture by reference", f"![{{}}][image9]\n\n[image9]: <data:image/png;base64,{PICTURE}>"),
    C("picture element", f'<img alt="{{}}" src="data:image/png;base64,{PICTURE}">'), C("hard break", "one  \n{}"),
    C("escape", "\\*{}\\*"), C("comment", "<!-- {} -->", lost=True), C("comment in code", "```html\n<!-- {} -->\n```"),
    C("math", "$$x = {}$$"), C("definition list", "term\n: {}"), C("fence without an end", "```\nthe end {}"),
)  # fmt: skip

HTML = (
    C("header", "<header><p>{}</p></header>"), C("navigation", "<nav><a href='/'>{}</a></nav>", lost=True),
    C("navigation by role", "<div role='navigation'>{}</div>", lost=True), C("heading", "<h1>{}</h1>"),
    C("paragraph", "<p>A {} paragraph"), C("unclosed paragraph", "<p>and {}"), C("text in the body", "<br>{} loose"),
    C("aside", "<aside><p>{}</p></aside>"), C("nobr", "<p><nobr>{}</nobr></p>"), C("bold", "<p><b>{}</b></p>"),
    C("inside of a word's markup", "<p>the<i>se</i> {}</p>"), C("link", "<p><a href='x'>{}</a></p>"),
    C("abbreviation", "<p><abbr title='long'>{}</abbr></p>"), C("deleted", "<p><del>{}</del></p>"),
    C("inserted", "<p><ins>{}</ins></p>"), C("quoted", "<p><q>{}</q></p>"), C("small print", "<small>{}</small>"),
    C("mark", "<p><mark>{}</mark></p>"), C("keyboard", "<p>press <kbd>{}</kbd></p>"), C("code", "<p><code>{}</code></p>"),
    C("sub and sup", "<p>H<sub>2</sub>O<sup>{}</sup></p>"), C("time", "<p><time>{}</time></p>"),
    C("ruby", "<p><ruby>漢<rp>(</rp><rt>{}</rt><rp>)</rp></ruby></p>"), C("custom element", "<my-box>{}</my-box>"),
    C("quotation", "<blockquote>{}</blockquote>"), C("pre", "<pre>a<br>  {}</pre>"),
    C("pre of lines", "<pre><div>a</div><div>{}</div></pre>"), C("list", "<ul><li>{}</ul>"),
    C("ordered list", "<ol start=3><li>{}</ol>"), C("nested list", "<ul><li>a<ul><li>{}</ul></ul>"),
    C("definition", "<dl><dt>{}<dd>x</dl>"), C("description", "<dl><dt>x<dd>{}</dl>"),
    C("figure", "<figure><img src=a.png><figcaption>{}</figcaption></figure>"),
    C("picture's alternative", "<p><img src=a.png alt='{}'></p>"),
    C("closed details", "<details><summary>x</summary>{}</details>"), C("summary", "<details><summary>{}</summary></details>"),
    C("open dialog", "<dialog open>{}</dialog>"), C("closed dialog", "<dialog>{}</dialog>", lost=True),
    C("table caption", "<table><caption>{}</caption><tr><td>a<td>b</table>"),
    C("table head", "<table><thead><tr><th>{}<th>b<tbody><tr><td>a<td>b</table>"),
    C("table cell", "<table><tr><td>a<td>{}</table>"), C("table foot", "<table><tr><td>a<td>b<tfoot><tr><td>{}<td>x</table>"),
    C("cell of rows", "<table><tr><td rowspan=2>{}<td>b<tr><td>c</table>", times=2),
    C("list in a cell", "<table><tr><td>a<td><ul><li>{}</ul></table>"),
    C("nested table", "<table><tr><td>a<td><table><tr><td>{}<td>x</table></table>"),
    C("layout table", "<table><tr><td><h2>h</h2><p>{}</p></table>"), C("address", "<address>{}</address>"),
    C("field value", "<form><input value='{}'></form>"), C("hidden field", "<input type=hidden value='{}'>", lost=True),
    C("text area", "<textarea>{}</textarea>"), C("option", "<select><option>{}</select>"), C("button", "<button>{}</button>"),
    C("label", "<label>{} <input></label>"), C("legend", "<fieldset><legend>{}</legend></fieldset>"),
    C("drawing", "<svg><title>x</title><text>{}</text></svg>"), C("title of a drawing", "<svg><desc>{}</desc></svg>", lost=True),
    C("equation", "<math><mfrac><mi>{}</mi><mn>2</mn></mfrac></math>"),
    C("annotation of an equation", "<math><mi>x</mi><annotation>{}</annotation></math>", lost=True),
    C("entity", "<p>a &lt; {}</p>"), C("after a comment", "<p><!-- no -->{}</p>"), C("comment", "<!-- {} -->", lost=True),
    C("hidden attribute", "<div hidden>{}</div>", lost=True), C("hidden style", "<p style='display: none'>{}</p>", lost=True),
    C("invisible", "<p style='color:red;visibility:hidden'>{}</p>", lost=True),
    C("script", "<script>var x = '<div>{}<div>';</script>", lost=True), C("style", "<style>.x::after {content: '{}'}</style>", lost=True),
    C("template", "<template><p>{}</p></template>", lost=True), C("without scripts", "<noscript>{}</noscript>", lost=True),
    C("player", "<video>{}</video>", lost=True), C("screen readers only", "<span class='sr-only'>{}</span>", lost=True),
    C("unclosed formatting", "<p>" + "<font><b>" * 300 + "{}"), C("section", "<section>{}</section>"),
    C("footer", "<footer>{}</footer>"), C("last text", "{} the end"),
)  # fmt: skip


def html(constructs: Sequence[Construct], plant: Word, title: str = "A guide") -> bytes:
    body = "\n".join(one.source.replace("{}", plant(one.name)) for one in constructs)
    return f"<!doctype html><html><head><meta charset=utf-8><title>{title}</title></head><body>{body}</body></html>".encode()


# -- Word --------------------------------------------------------------------------------------------------------------
def _p(inner: str) -> str:
    return f"<w:p>{inner}</w:p>"


def _r(inner: str) -> str:
    return f"<w:r>{inner}</w:r>"


def _t(text: str) -> str:
    return f'<w:t xml:space="preserve">{text}</w:t>'


def _run(text: str) -> str:
    return _r(_t(text))


def _box(text: str) -> str:
    inner = f"<w:txbxContent>{_p(_run(text))}</w:txbxContent>"
    return _r(
        f'<mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wp:inline><wps:txbx>{inner}</wps:txbx></wp:inline>'
        f"</w:drawing></mc:Choice><mc:Fallback><w:pict><v:shape><v:textbox>{inner}</v:textbox></v:shape></w:pict>"
        "</mc:Fallback></mc:AlternateContent>"
    )


def _field(code: str, result: str) -> str:
    return (
        _r('<w:fldChar w:fldCharType="begin"/>') + _r(f"<w:instrText>{code}</w:instrText>")
        + _r('<w:fldChar w:fldCharType="separate"/>') + result + _r('<w:fldChar w:fldCharType="end"/>')
    )  # fmt: skip


def _tbl(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def _tc(inner: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{inner}</w:tc>"


def _cell(text: str) -> str:
    return _tc(_p(_run(text)))


WORD = (
    C("header", "header:" + _p(_run("{}"))), C("heading", _p('<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>' + _run("{}"))),
    C("paragraph", _p(_run("A {} paragraph"))), C("word in two runs", _p(_run("and ") + _run("{}"))),
    C("insertion", _p(f'<w:ins w:id="1">{_run("{}")}</w:ins>')), C("moved here", _p(f"<w:moveTo>{_run('{}')}</w:moveTo>")),
    C("moved away", _p(f"<w:moveFrom>{_run('{}')}</w:moveFrom>"), lost=True),
    C("deletion", _p(f'<w:del w:id="2">{_r("<w:delText>{}</w:delText>")}</w:del>'), lost=True),
    C("hidden text", _p(_r("<w:rPr><w:vanish/></w:rPr>" + _t("{}"))), lost=True),
    C("content control", f"<w:sdt><w:sdtContent>{_p(_run('{}'))}</w:sdtContent></w:sdt>"),
    C("control in a line", _p(f"<w:sdt><w:sdtContent>{_run('{}')}</w:sdtContent></w:sdt>")),
    C("custom XML", f'<w:customXml w:element="x">{_p(_run("{}"))}</w:customXml>'),
    C("smart tag", _p(f'<w:smartTag w:element="x">{_run("{}")}</w:smartTag>')),
    C("hyperlink", _p(f'<w:hyperlink w:anchor="x">{_run("{}")}</w:hyperlink>')),
    C("field result", _p(_field("DATE", _run("{}")))), C("field code", _p(_field("REF {}", _run("see"))), lost=True),
    C("nested field", _p(_field("IF", _field("REF x", _run("{}"))))),
    C("simple field", _p(f'<w:fldSimple w:instr="AUTHOR">{_run("{}")}</w:fldSimple>')),
    C("text box", _p(_run("see the box") + _box("{}"))),
    C("old text box", _p(_r(f"<w:pict><v:shape><v:textbox><w:txbxContent>{_p(_run('{}'))}</w:txbxContent></v:textbox></v:shape></w:pict>"))),
    C("grouped text box", _p(_box("x {}").replace("<wps:txbx>", "<wpg:wgp><wps:txbx>").replace("</wps:txbx>", "</wps:txbx></wpg:wgp>"))),
    C("text box in a box", _p(_box("{}").replace(_p(_run("{}")), _p(_run("outer") + _box("{}"))))),
    C("tab", _p(_r(_t("a") + "<w:tab/>" + _t("{}")))), C("break", _p(_r(_t("a") + "<w:br/>" + _t("{}")))),
    C("list item", _p('<w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr></w:pPr>' + _run("{}"))),
    C("code", _p('<w:pPr><w:pStyle w:val="SourceCode"/></w:pPr>' + _run("{}"))),
    C("table", _tbl(_cell("Bolt") + _cell("{}"))), C("inserted row", f"<w:tbl><w:tr><w:trPr><w:ins/></w:trPr>{_cell('a')}{_cell('{}')}</w:tr></w:tbl>"),
    C("deleted row", f"<w:tbl><w:tr><w:trPr><w:del/></w:trPr>{_cell('a')}{_cell('{}')}</w:tr></w:tbl>", lost=True),
    C("row in a control", f"<w:tbl><w:sdt><w:sdtContent><w:tr>{_cell('a')}{_cell('{}')}</w:tr></w:sdtContent></w:sdt></w:tbl>"),
    C("cell in a control", f"<w:tbl><w:tr>{_cell('a')}<w:sdt><w:sdtContent>{_cell('{}')}</w:sdtContent></w:sdt></w:tr></w:tbl>"),
    C("nested table", _tbl(_cell("a") + _tc(_p(_run("x")) + _tbl(_cell("b") + _cell("{}"))) + _cell("c"))),
    C("merged cell", _tbl(_tc(_p(_run("{}")), '<w:vMerge w:val="restart"/>') + _cell("b"), _tc(_p(""), "<w:vMerge/>") + _cell("c")), times=2),
    C("layout table", _tbl(_tc(_p(_run("a")) + _p(_run("{}"))))),
    C("equation", _p("<m:oMath><m:f><m:num><m:r><m:t>{}</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath>")),
    C("equation of its own", _p("<m:oMathPara><m:oMath><m:rad><m:deg/><m:e><m:r><m:t>{}</m:t></m:r></m:e></m:rad></m:oMath></m:oMathPara>")),
    C("ruby", _p(_r(f"<w:ruby><w:rt>{_run('{}')}</w:rt><w:rubyBase>{_run('x')}</w:rubyBase></w:ruby>"))),
    C("footnote", "footnote:{}"), C("footnote in a table", "tablenote:{}"), C("endnote", "endnote:{}"),
    C("bidirectional text", _p(f'<w:bdo w:val="rtl">{_run("{}")}</w:bdo>')), C("comment", "comment:{}", lost=True),
    C("picture's description", _p(_r('<w:drawing><wp:inline><wp:docPr id="1" name="a" descr="{}"/><pic:pic/></wp:inline></w:drawing>')), lost=True),
    C("diagram", "diagram:{}"), C("chart", "chart:{}"), C("built-in page", "chunk:{}"), C("last paragraph", _p(_run("{} the end"))),
    C("header of no page", "evenheader:{}", lost=True), C("footer", "footer:" + _p(_run("{}"))),
)  # fmt: skip
_NS = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
        "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "wpg": "http://schemas.microsoft.com/office/word/2010/wordprocessingGroup",
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main", "v": "urn:schemas-microsoft-com:vml",
        "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
        "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
        "pic": "http://schemas.openxmlformats.org/drawingml/2006/picture",
    }.items()
)  # fmt: skip
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"


def docx(constructs: Sequence[Construct], plant: Word) -> bytes:
    """A Word file of these constructs; those named ``kind:`` go into parts of their own."""
    body, relations = [], []
    parts: dict[str, str] = {
        "styles.xml": '<w:styles {ns}><w:style w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="SourceCode"><w:name w:val="Source Code"/></w:style></w:styles>'
    }
    notes: dict[str, list[str]] = {"footnote": [], "endnote": [], "comment": []}
    section = ""

    def related(kind: str, name: str, xml: str) -> str:
        relations.append((kind, name))
        parts[name] = xml
        return f"rId{len(relations)}"

    def note(kind: str, text: str) -> str:
        number = len(notes[kind]) + 1
        notes[kind].append(f'<w:{kind} w:id="{number}">{_p(_run(text))}</w:{kind}>')
        return _r(f'<w:{kind}Reference w:id="{number}"/>')

    related("styles", "styles.xml", parts["styles.xml"])
    for one in constructs:
        source = one.source.replace("{}", plant(one.name))
        kind, _, text = source.partition(":") if not source.startswith("<") else ("", "", source)
        if kind in ("header", "footer"):
            name = f"{kind}1.xml"
            relation = related(
                kind, name, f"<w:hdr {{ns}}>{text}{_p(_run('Page ') + _field('PAGE', _run('1')))}</w:hdr>"
            )
            section += f'<w:{kind}Reference w:type="default" r:id="{relation}"/>'
        elif kind == "evenheader":
            relation = related("header", "header9.xml", f"<w:hdr {{ns}}>{_p(_run(text))}</w:hdr>")
            section += f'<w:headerReference w:type="even" r:id="{relation}"/>'
        elif kind in ("footnote", "endnote", "comment"):
            body.append(_p(_run("a sentence") + note(kind, text) + _run(" that goes on.")))
        elif kind == "tablenote":
            body.append(_tbl(_cell("a") + _tc(_p(_run("b") + note("footnote", text)))))
        elif kind == "diagram":
            xml = f"<dgm:dataModel {{ns}}><dgm:pt><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt></dgm:dataModel>"
            relation = related("diagramData", "diagrams/data1.xml", xml)
            body.append(_p(_r(f'<w:drawing><wp:inline><dgm:relIds r:dm="{relation}"/></wp:inline></w:drawing>')))
        elif kind == "chart":
            xml = f"<c:chartSpace {{ns}}><c:strCache><c:pt><c:v>{text}</c:v></c:pt></c:strCache></c:chartSpace>"
            relation = related("chart", "charts/chart1.xml", xml)
            body.append(_p(_r(f'<w:drawing><wp:inline><c:chart r:id="{relation}"/></wp:inline></w:drawing>')))
        elif kind == "chunk":
            relation = related("aFChunk", "chunk1.html", f"<html><body><p>{text}</p></body></html>")
            body.append(f'<w:altChunk r:id="{relation}"/>')
        else:
            body.append(source)
    for kind, found in notes.items():
        root = "comments" if kind == "comment" else f"{kind}s"
        related(root, f"{root}.xml", f"<w:{root} {{ns}}>{''.join(found)}</w:{root}>")
    document = f"<w:document {_NS}><w:body>{''.join(body)}<w:sectPr>{section}</w:sectPr></w:body></w:document>"
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName="/word/document.xml"'
        ' ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
    )
    return made.zipped(
        [
            ("[Content_Types].xml", types.encode()),
            ("_rels/.rels", _relations([("officeDocument", "word/document.xml")])),
            ("word/document.xml", document.encode()),
            ("word/_rels/document.xml.rels", _relations(relations)),
            *((f"word/{name}", xml.replace("{ns}", _NS).encode()) for name, xml in parts.items()),
        ]
    )


def _relations(found: Sequence[tuple[str, str]]) -> bytes:
    lines = (
        f'<Relationship Id="rId{number}" Type="{_OFFICE}{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(found, start=1)
    )
    return (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">' + "".join(lines)
        + "</Relationships>"
    ).encode()  # fmt: skip


# -- PDF ---------------------------------------------------------------------------------------------------------------
PDF = (
    C("running header", "head:Handbook of {} works"), C("line", "A {} line"), C("next line", "and {} goes on"),
    C("hyphen at a line's end", "hyphen:{}"), C("soft hyphen", "soft:{}"), C("kerned text", "[(the ) -20 ({})] TJ T*"),
    C("octal escape", "\\050{}\\051"), C("line by apostrophe", "(x) Tj ({}) ' T*"),
    C("sentence over two pages", "tail:{}"), C("form field", "field:{}"), C("choice", "choice:{}"),
    C("typed note", "typed:{}"), C("comment of a reader", "comment:{}", lost=True),
    C("hidden field", "hidden:{}", lost=True), C("password", "password:{}", lost=True),
    C("second page", "second:{} on the next page."), C("form object", "shape:({}) Tj"),
)  # fmt: skip


def pdf_file(constructs: Sequence[Construct], plant: Callable[[str], str]) -> bytes:
    """A file of two pages with these constructs, with junk before it; those named ``kind:`` are not lines of page 1."""
    first: list[str] = []
    second: list[str] = []
    notes, shapes = [], []
    header = ""
    box = "/Rect [100 600 300 620]"
    for one in constructs:
        planted = plant(one.name)
        source = one.source.replace("{}", planted)
        kind, _, text = source.partition(":") if ":" in source else ("", "", source)
        half = len(text) // 2
        if kind == "head":
            header = text
        elif kind in ("hyphen", "soft"):
            first += [f"and {text[:half]}{'-' if kind == 'hyphen' else chr(0xAD)}", f"{text[half:]} ends"]
        elif kind == "tail":
            first.append("This sentence is about")
            second.append(f"{text} and ends here.")
        elif kind == "second":
            second.append(f"Then {text}")
        elif kind == "shape":
            shapes.append(text)
            second.append("ET /X0 Do BT /F1 11 Tf 72 300 Td 14 TL")
        elif kind in ("field", "hidden", "password"):
            flags = {"hidden": "/F 2", "password": "/Ff 8192"}.get(kind, "/F 4")
            notes.append(f"<< /Type /Annot /Subtype /Widget /FT /Tx /T ({kind}) /V ({text}) {box} {flags} >>")
        elif kind == "choice":
            notes.append(f"<< /Type /Annot /Subtype /Widget /FT /Ch /T (kind) /Opt [({text}) (b)] /V ({text}) {box} >>")
        elif kind in ("typed", "comment"):
            name = "FreeText /DA (/F1 11 Tf)" if kind == "typed" else "Text"
            notes.append(f"<< /Type /Annot /Subtype /{name} /Contents ({text}) {box} >>")
        else:
            first.append(source)
    pages = [[header, *first, "Page 1 of 2"], [header, *second, "Page 2 of 2"]]
    return raw_pdf(pages, notes, shapes, before=b"junk of a mail program\r\n")


# -- notebooks, tables, records ----------------------------------------------------------------------------------------
NOTEBOOK = (
    C("Markdown cell", '{"cell_type": "markdown", "source": ["# A\\n", "about {}"]}'),
    C("source as one text", '{"cell_type": "markdown", "source": "on {}"}'),
    C("code cell", '{"cell_type": "code", "source": "f({})", "outputs": []}'),
    C("raw cell", '{"cell_type": "raw", "source": "raw {}"}'), C("heading cell", '{"cell_type": "heading", "level": 2, "source": "{}"}'),
    C("cell of an unknown kind", '{"cell_type": "query", "source": "{}"}'), C("cell without a source", '{"cell_type": "code", "metadata": {"tag": "{}"}}', lost=True),
    C("null source", '{"cell_type": "markdown", "source": null}', lost=True), C("a number for a cell", "7", lost=True),
    C("printed text", '{"cell_type": "code", "source": "", "outputs": [{"output_type": "stream", "text": ["x\\n", "{}"]}]}'),
    C("output of a null source", '{"cell_type": "code", "source": null, "outputs": [{"output_type": "stream", "text": "{}"}]}'),
    C("result", '{"cell_type": "code", "source": "a", "outputs": [{"output_type": "execute_result", "data": {"text/plain": ["{}"]}}]}'),
    C("coloured text", '{"cell_type": "code", "source": "a", "outputs": [{"output_type": "stream", "text": "\\u001b[31m{}\\u001b[0m"}]}'),
    C("Markdown result", '{"cell_type": "code", "source": "a", "outputs": [{"output_type": "display_data", "data": {"text/markdown": "{}", "text/plain": "<M>"}}]}'),
    C("error", '{"cell_type": "code", "source": "a", "outputs": [{"output_type": "error", "ename": "{}", "evalue": "no", "traceback": []}]}'),
    C("odd output", '{"cell_type": "code", "source": "f({})", "outputs": [3, null]}'),
    C("name of a figure", '{"cell_type": "code", "source": "a", "outputs": [{"output_type": "display_data", "data": {"image/png": "iVBO", "text/plain": "{}"}}]}', lost=True),
    C("traceback", '{"cell_type": "code", "source": "a", "outputs": [{"output_type": "error", "ename": "E", "evalue": "no", "traceback": ["{}"]}]}', lost=True),
)  # fmt: skip


def notebook(constructs: Sequence[Construct], plant: Word) -> bytes:
    cells = ", ".join(one.source.replace("{}", plant(one.name)) for one in constructs)
    return f'{{"nbformat": 4, "metadata": {{}}, "cells": [{cells}]}}'.encode()


CSV = (
    C("column without a name", "0,{},500 litres,5,6\n"), C("plain value", "1,tank,{},5,6\n"), C("column named by a year", "2,a,b,{},6\n"),
    C("column named twice", "3,a,b,5,{}\n"), C("quoted value", '4,"a, {}",b,5,6\n'), C("doubled marks", '5,"say ""{}""",b,5,6\n'),
    C("value of two lines", '6,"a\n{}",b,5,6\n'), C("mark inside", '7,5" {},b,5,6\n'), C("mark that nothing closes", '8,"{},b,5,6\n'),
    C("short row", "9,{}\n"), C("long row", "10,a,b,5,6,{}\n"), C("NUL byte", "11,a\0 {} and other words,b,5,6\n"),
    C("byte that is no UTF-8", "12,caf\udce9 {} and other words,b,5,6\n"), C("blanks around", "13,  {}  ,b,5,6\n"),
    C("CRLF", "14,{},b,5,6\r\n"), C("marks and more", '15,"a" {},b,5,6\n'), C("last row without an end", "16,a,b,5,{}"),
)  # fmt: skip
TSV = (
    C("mark that nothing closes", '"{}\tx\n'), C("value", "a\t{}\n"), C("another such mark", '"{} big\ty\n'),
    C("quoted value", '"{}"\tx\n'), C("quoted tab", '"a\tb {}"\tx\n'), C("comma", "a, {}\tb\n"), C("short row", "{}\n"),
    C("last row", "a\t{}"),
)  # fmt: skip
CR_TABLE = (C("first row", "1;{}\r"), C("second row", '2;"a {}"\r'), C("third row", "3;{}"))
JSONL = (
    C("text", '{"id": "a", "text": "on {}"}'), C("content", '{"content": "on {}"}'), C("body", '{"body": "on {}"}'),
    C("document", '{"document": "on {}"}'), C("null beside a filled field", '{"text": null, "content": "on {}"}'),
    C("empty beside a filled field", '{"text": "", "body": "on {}"}'), C("id that is a number", '{"id": 7, "text": "on {}"}'),
    C("list of lines", '{"text": ["one", "{}"]}'), C("fields of its own", '{"question": "why", "answer": "as {}", "n": 3}'),
    C("escapes", '{"text": "\\u00fcber\\n{}"}'), C("bad line", '{"text": "{}"', lost=True), C("no object", '["{}"]', lost=True),
    C("fields beside the text", '{"text": "some words", "source": "{}"}', lost=True), C("NUL byte", '{"text": "a\0 {} and other words"}'),
    C("byte that is no UTF-8", '{"text": "caf\udce9 {} and other words"}'), C("last line", '{"text": "end {}"}'),
)  # fmt: skip


def lines(constructs: Sequence[Construct], plant: Word, head: str = "", end: str = "") -> bytes:
    text = head + end.join(one.source.replace("{}", plant(one.name)) for one in constructs)
    return text.encode("utf-8", "surrogateescape")


PARQUET = (C("text", "text"), C("text of a null before it", "content"), C("title without a text", "title", lost=True))


def parquet(constructs: Sequence[Construct], plant: Word) -> bytes:
    rows = [{"text": None, "content": None, "title": None, one.source: plant(one.name)} for one in constructs]
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema([(n, pa.string()) for n in ("text", "content", "title")])), sink
    )
    return sink.getvalue()


ALL_COLUMNS = (C("a column", "{}"), C("another column", "{}"))


def columns(constructs: Sequence[Construct], plant: Word) -> bytes:
    return made.parquet([{f"c{n}": plant(one.name) for n, one in enumerate(constructs)}])


def every_format() -> Iterator[tuple[str, Sequence[Construct], Callable[[Sequence[Construct], Word], bytes]]]:
    """File name, constructs, and what makes the file of them and of a planted word for each."""
    yield "a.txt", PLAIN, lambda c, w: lines(c, w, end="\n")
    yield "a.rst", PLAIN, lambda c, w: lines(c, w, end="\n")
    yield "a.md", MARKDOWN, lambda c, w: lines(c, w, end="\n\n")
    yield "a.html", HTML, html
    yield "a.docx", WORD, docx
    yield "a.pdf", PDF, pdf_file
    yield "a.ipynb", NOTEBOOK, notebook
    yield "a.csv", CSV, lambda c, w: lines(c, w, head=",name,capacity,2019,capacity\n")
    yield "a.tsv", TSV, lambda c, w: lines(c, w, head="name\tsize\n")
    yield "cr.csv", CR_TABLE, lambda c, w: lines(c, w, head="n;name\r")
    yield "a.jsonl", JSONL, lambda c, w: lines(c, w, end="\n")
    yield "a.parquet", PARQUET, parquet
    yield "columns.parquet", ALL_COLUMNS, columns
