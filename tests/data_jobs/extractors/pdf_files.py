"""PDF files written object by object, so that a test can say exactly what is in them."""

from __future__ import annotations

from collections.abc import Sequence

FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def raw_pdf(
    pages: Sequence[Sequence[str]], annotations: Sequence[str] = (), shapes: Sequence[str] = (), before: bytes = b""
) -> bytes:
    """A page per list of lines; a line that ends with T* is drawn as it is. ``annotations`` are of page 1.

    ``shapes`` are the content streams of form objects, ``/X0``, ``/X1`` ...; ``before`` is junk before the file.
    """
    objects: list[str] = ["", "", FONT]
    forms = []
    for content in shapes:
        body = f"BT /F1 11 Tf 72 60 Td {content} ET"
        objects.append(
            "<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Length {len(body)} >>\nstream\n{body}\nendstream"
        )
        forms.append(len(objects))
    notes = []
    for note in annotations:
        objects.append(note)
        notes.append(len(objects))
    kids = []
    for number, lines in enumerate(pages):
        text = "\n".join(line if line.endswith("T*") or line.startswith("ET") else f"({line}) Tj T*" for line in lines)
        body = f"BT /F1 11 Tf 72 740 Td 14 TL {text} ET"
        objects.append(f"<< /Length {len(body.encode('latin-1'))} >>\nstream\n{body}\nendstream")
        stream = len(objects)
        named = " ".join(f"/X{n} {form} 0 R" for n, form in enumerate(forms))
        shown = f"/Annots [{' '.join(f'{note} 0 R' for note in notes)}]" if notes and not number else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {stream} 0 R {shown} "
            f"/Resources << /Font << /F1 3 0 R >> /XObject << {named} >> >> >>"
        )
        kids.append(len(objects))
    fields = [note for note, source in zip(notes, annotations, strict=True) if "/Widget" in source]
    form = f"/AcroForm << /Fields [{' '.join(f'{field} 0 R' for field in fields)}] >>" if fields else ""
    objects[0] = f"<< /Type /Catalog /Pages 2 0 R {form} >>"
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>"
    out, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, source in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + source.encode("latin-1") + b"\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}".encode()
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return before + bytes(out)
