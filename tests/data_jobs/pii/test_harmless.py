"""What only looks like personal data stays; what stands beside other scripts and in emphasis is found."""

# ruff: noqa: E501 (wide letters count twice)
from __future__ import annotations

import csv
from pathlib import Path

import pytest

from data_jobs.pii import find, redact
from data_jobs.pii.form import Form
from tests.data_jobs.pii.credential_strings import FALSE, newer_strings, true_strings

HARMLESS = Path(__file__).with_name("harmless.tsv")


def test_harmless_lines_of_twenty_kinds_are_left_alone() -> None:
    """The first part was written before the rules, the second was seen once and mended, the third written after."""
    with HARMLESS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len({row["kind"] for row in rows}) == 20
    for part in ("first", "second", "third"):
        texts = [row["text"] for row in rows if row["half"] == part]
        wrong = [(text, found) for text in texts if (found := find(text))]
        assert len(wrong) <= 0.03 * len(texts), wrong


@pytest.mark.parametrize("seed", [9, 10])
def test_credentials_of_many_forms(seed: int) -> None:
    lines = true_strings(seed)
    hit = 0
    for line, secret in lines:
        start = line.index(secret)
        covered = {i for f in find(line) if f.type == "SECRET" for i in range(f.start, f.end)}
        hit += len(covered & set(range(start, start + len(secret)))) >= 0.9 * len(secret)
    false = [line for line in FALSE if any(f.type == "SECRET" for f in find(line))]
    assert len(lines) + len(FALSE) >= 300
    assert 2 * hit / (len(lines) + hit + len(false)) >= 0.95, false


def test_credentials_of_newer_services_and_places() -> None:
    for line, secret in newer_strings():
        assert [line[f.start : f.end] for f in find(line) if f.type == "SECRET"] == [secret], line
    for line in (
        "tk_window_of_the_main_application", "figd_ and xai-grok-code-fast are names", "dp.state.update(token)",
        '<input name="password" value="">', '<add key="token" value="{token}"/>', "sshpass -p $PASSWORD ssh", "mysql -h db -P 3306 -p shop", "render_pass = 2",
        "pull re_export_ from sb_secret_store", "nvapi-client",
    ):  # fmt: skip
        assert find(line) == [], line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("邮箱lin.wei@firma-muster.cn我们", "邮箱<EMAIL_1>我们"),
        ("電話０９０－１２３４－５６７８です", "電話<PHONE_1>です"),
        ("call 212\u2011555\u20110143 or 212\u00a0555\u00a00144 now", "call <PHONE_1> or <PHONE_2> now"),
        ("**ann@corp.io**, _bob@corp.io_ and `eve@corp.io`", "**<EMAIL_1>**, _<EMAIL_2>_ and `<EMAIL_3>`"),
        ("**Password:** `Tr0ub4dor3`", "**Password:** `<SECRET_1>`"),
        ("卡号4111\u00a01111\u00a01111\u00a01111请", "卡号<CARD_1>请"),
        ("ﬁle of ann@corp.io", "ﬁle of <EMAIL_1>"),
        ("snake_case_name_ and __init__ stay", "snake_case_name_ and __init__ stay"),
    ],
)
def test_places_are_those_of_the_text_given(text: str, expected: str) -> None:
    assert redact(text)[0] == expected


def test_a_token_with_underscores_at_its_borders_stays_whole() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOjEyMzQ1Njc4OTB9_.Sfl-_KxwRJSMeKKF2QT4-_fwpMeJf36POk6yJV_adQssw5c"
    assert redact(f"token {token} end")[0] == "token <SECRET_1> end"


def test_every_place_of_a_form_is_one_of_the_text() -> None:
    text = "½ 邮a１ﬃ **x** 字b–c\u00a0한글d"
    form = Form(text)
    at = [form.original(place, place + 1) for place in range(len(form.text)) if form.text[place] != " "]
    assert all(0 <= start < end <= len(text) for start, end in at)
    assert at == sorted(at)
    assert form.text == "1⁄2 邮 a1ffi   x   字 b-c 한글 d"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("电话：010-62781234", "010-62781234"), ("Tel:030-901820", "030-901820"), ("phone=4155552671", "4155552671"),
        ("เบอร์โทร๐๘๑-๒๓๔-๕๖๗๘", "๐๘๑-๒๓๔-๕๖๗๘"), ("هاتف: ٠١٠٠١٢٣٤٥٦٧", "٠١٠٠١٢٣٤٥٦٧"), ("मोबाइल: ९८७६५४३२१०", "९८७६५४३२१०"),
        ("Телефон: 8 912 345 67 89", "8 912 345 67 89"), ("тел.: 89123456789", "89123456789"), ("0171/123 45 67", "0171/123 45 67"),
        ("GB82-WEST-1234-5698-7654-32", "GB82-WEST-1234-5698-7654-32"), ("card 4111.1111.1111.1111", "4111.1111.1111.1111"),
        ("| password | Xk9#pQ2z |", "Xk9#pQ2z"), ("password:\nXk9#pQ2z\n", "Xk9#pQ2z"), ("Passwort:\n  Xk9#pQ2z", "Xk9#pQ2z"),
        ("北京市海淀区中关村大街27号", "北京市海淀区中关村大街27号"), ("東京都千代田区丸の内1-9-1", "東京都千代田区丸の内1-9-1"),
        ("大阪府大阪市北区梅田1丁目2番3号", "大阪府大阪市北区梅田1丁目2番3号"),
    ],
)  # fmt: skip
def test_what_other_scripts_and_layouts_write_is_found_whole(text: str, said: str) -> None:
    assert [text[found.start : found.end] for found in find(text)] == [said]


@pytest.mark.parametrize(
    "text",
    [
        "signal=12345678", "phone:1700000000", "0102/2024 12", "12.1234.5678.9012.3456", "地铁2号线沿解放路12号线", "第3条第2号",
        "東京都の人口は14-15万", "| password | string | required |", "| token | uint64 |", "Password:\nStep1 do it\n",
        "password:\nuser1: x\n", "٣ كتب و ٢٠٢٤", "١٢٣٤٥٦٧ نسمة",
    ],
)  # fmt: skip
def test_what_looks_like_it_there_stays(text: str) -> None:
    assert find(text) == []
