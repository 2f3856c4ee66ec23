"""Personal data and credentials: what is found, what is left alone, and at what cost."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_jobs.pii import MAX_ENTITY_CHARS, TYPES, find, redact
from tests.conftest import needs

SYNTH = Path(__file__).parents[3].parent / "shared/data/pii_presidio_synth/synth_v2.jsonl"
GOLD = {
    "PHONE_NUMBER": "PHONE", "CREDIT_CARD": "CARD", "US_SSN": "SSN", "IBAN_CODE": "IBAN", "IP_ADDRESS": "IP",
    "EMAIL_ADDRESS": "EMAIL", "US_DRIVER_LICENSE": "NATIONAL_ID", "STREET_ADDRESS": "ADDRESS",
}  # fmt: skip
KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq\n" * 40 + "-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"

FOUND = [
    ("EMAIL", "bob.smith+lists@mail.acme.io"),
    ("EMAIL", "jörg@bücher.de"),
    ("EMAIL", "o'brien@corp.ie"),
    ("PHONE", "+1 (415) 555-2671"),
    ("PHONE", "415-555-2671"),
    ("PHONE", "+49 30 901820"),
    ("PHONE", "020 7946 0958"),
    ("CARD", "4111 1111 1111 1111"),
    ("CARD", "378282246310005"),
    ("CARD", "5555-5555-5555-4444"),
    ("IBAN", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "gb82west12345698765432"),
    ("SSN", "123-45-6789"),
    ("IP", "93.184.216.34"),
    ("IP", "2606:2800:220:1:248:1893:25c8:1946"),
    ("IP", "2a00:1450:4001::200e"),
    ("SECRET", "AKIAIOSFODNN7EXAMPLE"),
    ("SECRET", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
    ("SECRET", JWT),
    ("SECRET", "sk-proj-abc123DEF456ghi789JKL012"),
    ("SECRET", "plinth_3d9a792289_D9qDgBzJea4j1dUNvZigqCS5_vO0atYhplD8rZf0mXA"),
    ("SECRET", "xoxb-123456789012-abcdefghijkl"),
    ("SECRET", KEY),
]


@pytest.mark.parametrize(("kind", "value"), FOUND)
def test_each_type_is_found_whole_in_a_sentence(kind: str, value: str) -> None:
    text = f"As discussed, {value} is what I have; thanks."
    redacted, findings = redact(text)
    assert {f.type for f in findings} == {kind}
    assert redacted == f"As discussed, <{kind}_1> is what I have; thanks."
    assert all(f.end - f.start <= MAX_ENTITY_CHARS for f in findings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2 next", "password=<SECRET_1> next"),
        ("api_key: 'opensesame'", "api_key: '<SECRET_1>'"),
        ('{"client_secret": "a8f5f167f44f"}', '{"client_secret": "<SECRET_1>"}'),
        ("my password is hunter22.", "my password is <SECRET_1>."),
        ("postgres://bob:s3cr3t@db.host/x", "postgres://<SECRET_1>@db.host/x"),
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer <SECRET_1>"),
    ],
)
def test_credentials_by_their_context(text: str, expected: str) -> None:
    assert redact(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 0.0.0.0 ::1 10.1.2.3 172.20.0.1 192.168.1.1 169.254.0.1 192.0.2.44 198.51.100.7 203.0.113.9",
        "255.255.255.0 is a mask",
        "2001:db8::1 fe80::1 fd00::12 ff02::1",
        "user@example.com root@localhost a@b.test x@mail.example.org",
        "version 1.2.3.4, v10.20.30.40, pip==21.2.3.40, Chrome/114.0.5735.90",
        "s[1:2:3] x[::2] a::b std::vector 12:34:56",
        "2024-01-15 10:20:30 UTC, 978-3-16-148410-0, 1234567890, 3.14159265358979, 0x1F, 1,000,000, 2**63",
        "password=None, token: str, password = getpass.getpass(), secret=self.secret1, key='password'",
        "https://user:password@host/ and ftp://<user>:<password>@host",
        "@property\n@app.route('/x')\nmatrix @ vector",
        "datetime(2024, 1, 15, 10, 30, 59)  timeout=30000 port 8080 errno 110",
        "4111 1111 1111 1112 is no card",
        "GB82 WEST 1234 5698 7654 33 is no IBAN",
        "666-12-3456, 123-00-4567 and 123-45-0000 are no SSNs",
        "Decimal('+35236450.6')",
        "sk-learn-like-names-are-fine-here",
        "git@github.com:org/repo.git",
    ],
)
def test_technical_text_is_left_alone(text: str) -> None:
    assert find(text) == []
    assert redact(text) == (text, [])


def test_placeholders_are_stable_within_a_text() -> None:
    redacted, findings = redact("ann@corp.io wrote bob@corp.io; ann@corp.io waits at 415-555-2671")
    assert redacted == "<EMAIL_1> wrote <EMAIL_2>; <EMAIL_1> waits at <PHONE_1>"
    assert [f.type for f in findings] == ["EMAIL", "EMAIL", "EMAIL", "PHONE"]


def test_a_private_key_cut_off_in_the_middle_is_hidden_to_the_end() -> None:
    assert redact("key:\n" + KEY[:400])[0] == "key:\n<SECRET_1>"


def test_long_findings_come_in_pieces_that_touch() -> None:
    findings = find(KEY)
    assert len(findings) == -(-len(KEY) // MAX_ENTITY_CHARS)
    assert [f.start for f in findings[1:]] == [f.end for f in findings[:-1]]


pieces = st.one_of(
    st.sampled_from([value for _, value in FOUND] + ["password=", "@", "://", "-----BEGIN ", "+", "a.b", ":"]),
    st.sampled_from(
        ["467 3395", "699 956 915", "call ", "my number is ", "account ", "12 Main Street", "rue X 5", "A"]
    ),
    st.text(max_size=12),
)


@settings(max_examples=150, deadline=None)
@example(["+49 30 901820", "4111 1111 1111 1111", "bob.smith+lists@mail.acme.io", "4111 1111 1111 1111"], " ")
@given(st.lists(pieces, max_size=8), st.sampled_from([" ", "", ", ", "\n"]))
def test_findings_are_sorted_disjoint_and_gone_after_redaction(parts: list[str], glue: str) -> None:
    text = glue.join(parts)
    redacted, findings = redact(text)
    end = 0
    for finding in findings:
        assert end <= finding.start < finding.end <= len(text)
        assert finding.type in TYPES
        assert finding.end - finding.start <= MAX_ENTITY_CHARS
        end = finding.end
    assert find(redacted) == []


HOSTILE = [
    "a",
    "1",
    "@",
    "a@",
    "a.",
    "a@a.",
    "1 ",
    "+1",
    "1.",
    ":",
    "a:",
    "2ab1::",
    "://",
    "://a:a",
    "eyJ",
    "eyJa." + "a" * 30,
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ",
    "password=",
    'password =   "',
    "secret_",
    "GB82",
    "GB82 WEST ",
    "Bearer ",
    "phone: 1 2 3 4 ",
    "call me at (1",
    "0 ",
    "01 23 ",
    "(0",
    "ssn ",
    "social security ",
    "sk-",
    "xoxb-",
    "\n",
    "x.x@x.",
    "1-",
    "1:",
    "AKIA",
    "1.1.1.1.",
    "é",
    "'",
    "a b@c ",
    "1 A St ",
    "1 A A A A ",
    "12 rue A ",
    "Calle A B C D ",
    "Xweg 1 ",
    "apt 1 ",
    "PO Box 1 ",
    "passport: A1",
    "http://a.",
    "a.b.c.d.e.",
    "12345678Z ",
    "2341 2341 2346 ",
    "AB 12 34 56 ",
    "call 467 3395 and ",
    "call 1234567 ",
    "my number 99 ",
    "1-2-3-4-5-6-7-8-",
    "\u0130",
    "8.8.8.8 ",
    "ip 1.2.3.4 ",
    "blocked 8.8.8.8 ",
    "version 1.2.3.4 ",
    "040.041.",
    "2001:4860:4860::8888 ",
    "curl ",
    "curl -u ",
    " -u a:",
    "machine a ",
    "machine a login b ",
    "--password ",
    '--password="',
    '";pwd="',
    "<password>",
    "?sig=aaaa",
    "://a",
    "tel: 467 3395 ",
    "467 3395-office ",
    "467 3395 ext. ",
    "076 812 1249\n",
    "number 467 3395 ",
    "account 467 3395 ",
    "call me ",
    "(030) 123 ",
    "+04 038 ",
    "x1 ",
    "((((",
    "([{",
    '"',
    "\\",
    "Ab",
    "abcdefgh" * 40,
    "\u4e2d1",
    "\u7535\u8bdd",
    "1.2.3.4, 5.6.7.8, ",
    "a (at) b (dot) c ",
    "a at b dot c ",
    " dot ",
    "a @ b.",
    "&nbsp;",
    "%201",
    "1  1",
    "wifi password is a b ",
    "seed phrase is aaa ",
    "card 4l1O ",
    "phone 1_2_3 ",
    "A1 is the password ",
    "passport number is 1",
    "password ",
    "password from a to b ",
    "log in with a and ",
    "creds: a / ",
    "root / Ab12345 is ",
    "code for the ",
    "backup codes: a1b2 ",
    "combination of the ",
    "api key of the ",
    "unseal ",
    "redis-cli -h a ",
    "openssl enc -k ",
    "curl -ua:",
    "echo a | ",
    "zip a -P",
    'auth=("a", ',
    "'password', '",
    "| password |\n|---|\n",
    "| a ",
    "wifi key ",
    "AAAAAAAAAAAAA%3D",
    "?key=a1",
    "sessionid=",
    "AC" + "0" * 32 + " ",
    "a@b .",
    "a@b-\n",
    "f(a)",
    "a at b.c mail ",
    "+49\n",
    "sort code 1",
    "acc 12345678 ",
    "1.234.567-",
    "Plaza A ",
    "A Weg 1",
    "Aaaaaaaa ",
    "wohne Am A ",
    "12 a street ",
    "postcode A",
    "4111 1111 ",
    "type=password ",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_costs_linear_time(unit: str) -> None:
    """Twice the text takes twice as long; three times is allowed for noise, and where nothing is found, no time."""

    def cost(size: int) -> float:
        text = unit * (size // len(unit))
        times = []
        for _ in range(3):
            start = time.process_time()
            find(text, TYPES)
            times.append(time.process_time() - start)
        return min(times)

    assert any(cost(size) <= 3 * cost(size // 2) + 0.002 for size in (8_000, 16_000, 32_000))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("PHONE", "(99) 645-7911"), ("PHONE", "60-56-85-91"), ("PHONE", "21 284 698 2548"), ("PHONE", "432 03 163"),
        ("NATIONAL_ID", "12345678Z"), ("NATIONAL_ID", "X1234567L"), ("NATIONAL_ID", "529.982.247-25"),
        ("NATIONAL_ID", "756.9217.0769.85"), ("NATIONAL_ID", "85.07.30-033.28"), ("NATIONAL_ID", "184127645108946"),
        ("NATIONAL_ID", "811218-9876"), ("NATIONAL_ID", "131052-308T"), ("NATIONAL_ID", "AB 12 34 56 C"),
        ("NATIONAL_ID", "RSSMRA85T10A562S"), ("NATIONAL_ID", "2341 2341 2346"),
        ("ADDRESS", "221B Baker Street"), ("ADDRESS", "1600 Pennsylvania Avenue, Washington, DC 20500"),
        ("ADDRESS", "Hauptstraße 12"), ("ADDRESS", "35 rue des Lilas"), ("ADDRESS", "Calle Mayor 5"),
        ("ADDRESS", "Storgatan 5"), ("ADDRESS", "P.O. Box 1234"), ("ADDRESS", "PSC 1234, Box 567\nAPO AE 09012"),
    ],
)  # fmt: skip
def test_more_types_are_found_whole(kind: str, value: str) -> None:
    assert redact(f"As discussed, {value} is what I have; thanks.")[0] == (
        f"As discussed, <{kind}_1> is what I have; thanks."
    )


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ("please call me tomorrow: ", "PHONE"), ("my number is ", "PHONE"), ("the message went to ", "PHONE"),
        ("my account at the phone company is account ", None), ("order ", None), ("", None), ("in total ", None),
    ],
)  # fmt: skip
def test_plain_groups_of_digits_are_phones_where_a_word_says_so(before: str, kind: str | None) -> None:
    found = [f.type for f in find(f"So {before}467 3395 as I said")]
    assert found == ([kind] if kind else [])


@pytest.mark.parametrize(
    "value", ["12345678A", "529.982.247-26", "756.9217.0769.84", "184127645108945", "131052-308U", "RSSMRA85T10A562T"]
)
def test_national_ids_with_a_wrong_check_digit_are_none(value: str) -> None:
    assert not [f for f in find(f"As discussed, {value} is it") if f.type == "NATIONAL_ID"]


def test_ids_that_are_named() -> None:
    assert redact("passport number: X1234567, driver's license F162823540116")[0] == (
        "passport number: <NATIONAL_ID_1>, driver's license <NATIONAL_ID_2>"
    )


def test_urls_are_found_only_when_asked_for() -> None:
    text = "see https://www.python.org/dev/(x), www.acme.io. and acme.co.uk; not os.name or setup.py"
    assert find(text) == []
    urls = [text[f.start : f.end] for f in find(text, ["URL"])]
    assert urls == ["https://www.python.org/dev/(x)", "www.acme.io", "acme.co.uk"]


def test_a_type_that_is_not_asked_for_is_not_taken_for_another() -> None:
    text = "card 4111 1111 1111 1111, mail ann@corp.io"
    assert [f.type for f in find(text)] == ["CARD", "EMAIL"]
    assert [f.type for f in find(text, ["PHONE", "EMAIL"])] == ["EMAIL"]


def test_names_come_from_a_finder_and_never_inside_something_else() -> None:
    class Names:
        def entities(self, text: str) -> list[tuple[int, int, str]]:
            return [(m.start(), m.end(), "PERSON") for m in re.finditer("[Aa]nn", text)]

    assert redact("Ann is ann@corp.io", names=Names())[0] == "<PERSON_1> is <EMAIL_1>"
    assert redact("Ann is ann@corp.io", ["EMAIL"], Names())[0] == "Ann is <EMAIL_1>"


def test_precision_and_recall_on_synthetic_sentences() -> None:
    needs(SYNTH.exists(), f"the data set {SYNTH}")
    hit: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    false: Counter[str] = Counter()
    for line in SYNTH.read_text().splitlines():
        row = json.loads(line)
        findings = find(row["text"])
        spans = [(GOLD[s["type"]], s["start"], s["end"]) for s in row["spans"] if s["type"] in GOLD]
        for kind, start, end in spans:
            letters = {i for i in range(start, end) if row["text"][i].isalnum()}
            covered = {i for f in findings for i in range(f.start, f.end)}
            (hit if letters <= covered else missed)[kind] += 1
        for finding in findings:
            if not any(finding.start < end and start < finding.end for _, start, end in spans):
                false[finding.type] += 1
    for kind in ("EMAIL", "CARD", "IBAN", "SSN", "IP"):
        assert hit[kind] >= 0.98 * (hit[kind] + missed[kind]), kind
    assert hit["PHONE"] >= 0.8 * (hit["PHONE"] + missed["PHONE"])
    assert false.total() <= 0.02 * hit.total()
