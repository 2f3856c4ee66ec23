"""Find and redact personal data and credentials: in documents, in requests, in streamed answers.

By rules: ``SECRET`` (keys of well-known services, JSON web tokens, private keys, ``password=...``, user and password in
a URL), ``EMAIL IBAN CARD SSN NATIONAL_ID IP PHONE ADDRESS URL``. Where a type has a check (Luhn for cards, ISO 7064 mod
97-10 for IBANs, the issuing rules of SSNs, the check digits of national ids, the address registry for IPs) a finding
has passed it. By a model, where one is configured: ``PERSON``. URLs are found but not redacted by default.

Not personal data, so left alone, since technical documents are full of them: loopback, private, link-local and
documentation addresses (RFC 1918, 4193, 5737, 3849), reserved domains (RFC 2606 and 6761: ``user@example.com``), dotted
versions (``1.2.3.4``, ``Chrome/114.0.0.0``), placeholders (``password=secret``, ``user:password@host``).

Every rule is linear in the text: quantifiers are bounded and a rule starts only where a run of its characters starts.
A finding is at most ``MAX_ENTITY_CHARS`` long; what is longer (a private key) comes as findings that touch. A rule
looks at most 64 characters to the left of a finding, and to the right no further than MAX_ENTITY_CHARS + 8 from its
start: whoever checks a stream piece by piece must have seen that much behind a character before it may leave.
"""

from data_jobs.pii.redactor import (
    DEFAULT_TYPES,
    MAX_ENTITY_CHARS,
    MODEL_TYPES,
    TYPES,
    Finding,
    NameFinder,
    find,
    redact,
)

__all__ = ["DEFAULT_TYPES", "MAX_ENTITY_CHARS", "MODEL_TYPES", "TYPES", "Finding", "NameFinder", "find", "redact"]
