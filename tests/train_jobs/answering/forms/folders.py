# ruff: noqa: E501 (a table: one question a line)
"""Four small folders of different kinds, and questions to them by the form of answer they want.

What an answer must hold stands beside each question, so that one function judges all of them: substrings it has, ones
it has not, the document cited first, or that it is a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.core.records import Answer, Document

HANDBOOK = {
    "policies/leave-2022.md": """---
date: 2022-03-01
---
# Leave policy

Employees have 25 days of paid leave a year.

## Carrying over

Unused leave is lost at the end of the year.
""",
    "policies/leave-2024.md": """---
date: 2024-05-01
---
# Leave policy

Employees have 28 days of paid leave a year. Leave must be requested two weeks before it starts.

## Carrying over

Up to five days may be carried over into March.

## Parental leave

Parental leave is unpaid time off for parents of young children. It lasts at most 36 months.
""",
    "policies/travel.md": """# Travel

Train journeys of up to six hours are booked in second class. Flights need the approval of a director.

## Expenses

Contractors cannot claim travel expenses. Taxis are allowed after midnight.

Receipts must be kept for ten years.

## Per diem

| country | per diem | hotel limit |
|---|---|---|
| Austria | 32 EUR | 120 EUR |
| Norway | 61 EUR | 190 EUR |
| Portugal | 27 EUR | 105 EUR |
""",
    "policies/sick-leave.md": """# Sick leave

Sick leave is paid time off for employees who are ill. A doctor's note is required from the third day on.
""",
    "policies/remote-work.md": """# Remote work

Remote work is permitted on three days a week. Visitors may not use the company VPN.

Equipment

The company provides a laptop, a headset and a screen to everybody who works remotely.
""",
}
PRODUCT = {
    "guide/install.md": """# Installing Tarn

Tarn is a small message broker written in Rust. It keeps messages on disk until they are acknowledged.

## Install

Install it with the package manager:

```sh
sudo apt install tarn
tarn init --data /var/lib/tarn
```

## Supported platforms

Tarn supports these platforms:

- Debian 12
- Ubuntu 24.04
- FreeBSD 14
""",
    "guide/backup.md": """# Backup and restore

## Creating a backup

To create a backup, follow these steps:

1. Stop the broker with `tarn stop`.
2. Copy the folder `/var/lib/tarn` to another disk.
3. Start the broker again.
4. Check the copy with `tarn verify`.

## Restoring

To restore a backup, copy the folder back and run `tarn repair`.
""",
    "guide/queues.md": """# Queues and streams

A queue is a list of messages that each consumer takes from once. A stream is a log of messages that many consumers read
at their own pace. Messages in a queue are deleted after they were acknowledged. Messages in a stream are kept for
seven days.

## Limits

A message may be at most 4 MB long. Transactions are not supported. Streams support compression.
""",
    "guide/config-v1.md": "# Configuration\n\nVersion: 1.4\n\nThe broker listens on port 4100 by default.\n",
    "guide/config-v2.md": "# Configuration\n\nVersion: 2.0\n\nThe broker listens on port 5100 by default.\n",
}
GARDEN = {
    "tomatoes.txt": "Tomatoes\n\nTomatoes need full sun and regular watering. Seedlings are planted out after the last frost"
    " in May. Remove side shoots once a week.\n\nPests\n\nWhiteflies are the most common pest of tomatoes in a greenhouse.\n",
    "compost.txt": "Compost\n\nCompost is decayed plant material that feeds the soil. Do not put cooked food on the"
    " heap. Turn the heap every four weeks.\n",
    "mulch.txt": "Mulch\n\nMulch is a layer of straw or bark that keeps the soil moist. Mulch does not feed the soil."
    " It is spread in April.\n",
    "roses.txt": "Roses\n\nRoses are pruned in March. Roses tolerate frost. Prune roses like this:\n\n1) Disinfect the"
    " shears.\n2) Remove dead wood.\n3) Shorten every shoot to five buds.\n",
}


def _code() -> tuple[Document, ...]:
    def one(name: str, kind: str, signature: str, text: str) -> Document:
        title = f"module {name}" if kind == "module" else f"{name}{signature}"
        return Document(name, title, text, name, kind=kind, signature=signature)

    return (
        one("ledgerkit", "module", "", "Book-keeping in plain files.\n\nEverything is kept as text, one entry a line."),
        one("ledgerkit.load", "function", "(path, encoding='utf-8')",
            "Read a ledger from a file and return it.\n\nExample:\n\n>>> ledgerkit.load('2024.ledger')\n<Ledger of 12 entries>\n"),
        one("ledgerkit.loads", "function", "(text)", "Read a ledger from a string and return it."),
        one("ledgerkit.dump", "function", "(ledger, path)", "Write a ledger to a file."),
        one("ledgerkit.archive", "function", "(path, target)", "Copy a ledger file to another folder, compressed with gzip."),
        one("ledgerkit.clone", "function", "(entry)", "Copy one entry object in memory, its tags shared with the original."),
        one("ledgerkit.Ledger", "class", "(entries)", "A list of entries with a balance."),
        one("ledgerkit.Ledger.balance", "method", "(day=None)", "Return the sum of all entries up to a day."),
        one("ledgerkit.Ledger.append", "method", "(entry)", "Add an entry at the end."),
        one("ledgerkit.Ledger.remove", "method", "(number)",
            "Remove an entry by its number, which must be one that the ledger gave out before and has not yet reused for"
            " another entry since the last time it was compacted by its owner."),
    )  # fmt: skip


def _files(folder: dict[str, str]) -> tuple[Document, ...]:
    found = []
    for name, text in folder.items():
        heading = next((line for line in text.splitlines() if line.startswith("# ")), text.splitlines()[0])
        found.append(Document(name, heading.lstrip("# "), text, name, owner="docs team"))
    return tuple(found)


DOCUMENTS = {
    "handbook": _files(HANDBOOK), "product": _files(PRODUCT), "garden": _files(GARDEN), "code": _code(),
}  # fmt: skip
REFUSED = "refused"


@dataclass(frozen=True)
class Asked:
    """A question to a folder: what its answer ``has`` and ``lacks`` (in any case), whom it cites ``first``.
    ``before``: the conversation before it, as (user, assistant) texts."""

    folder: str
    form: str
    question: str
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    first: str = ""
    refused: bool = False
    before: tuple[tuple[str, str], ...] = field(default=())

    def right(self, made: Answer) -> bool:
        """Whether an answer is as it should be."""
        text = made.text.lower()
        if self.refused == made.grounded:
            return False
        if any(part.lower() not in text for part in self.has) or any(part.lower() in text for part in self.lacks):
            return False
        return not self.first or (bool(made.citations) and made.citations[0].document == self.first)


def _ask(folder: str, form: str, question: str, *has: str, **more: object) -> Asked:
    return Asked(folder, form, question, has, **more)  # type: ignore[arg-type]


U = "I do not know: the documents do not cover this."
LOADS = 'ledgerkit.load — "Read a ledger from a file and return it." [1] See also ledgerkit.loads — "..." [2]'
QUESTIONS = (
    # comparison
    _ask("product", "comparison", "What is the difference between a queue and a stream?", "A queue is a list", "A stream is a log", "[1]"),
    _ask("product", "comparison", "queue vs stream", "A queue is a list", "A stream is a log"),
    _ask("handbook", "comparison", "Compare parental leave and sick leave", "unpaid time off", "Sick leave is paid", "[2]"),
    _ask("handbook", "comparison", "How does sick leave differ from sabbatical leave?", "Sick leave is paid", "sabbatical leave: the documents do not cover"),
    _ask("garden", "comparison", "What's the difference between compost and mulch?", "decayed plant material", "layer of straw", "[2]"),
    _ask("code", "comparison", "What is the difference between ledgerkit.load and ledgerkit.loads?", "from a file", "from a string", "[2]"),
    _ask("code", "comparison", "ledgerkit.dump vs ledgerkit.store", "Write a ledger", "ledgerkit.store: the documents do not cover"),
    # yes or no
    _ask("handbook", "yes_no", "Can contractors claim travel expenses?", "No.", "Contractors cannot claim travel expenses"),
    _ask("handbook", "yes_no", "Are taxis allowed after midnight?", "Yes.", "Taxis are allowed"),
    _ask("handbook", "yes_no", "Is remote work permitted on three days a week?", "Yes."),
    _ask("handbook", "yes_no", "May visitors use the company VPN?", "No.", "Visitors may not use"),
    _ask("handbook", "yes_no", "Do flights need the approval of a director?", "Yes."),
    _ask("product", "yes_no", "Are transactions supported?", "No.", "Transactions are not supported"),
    _ask("product", "yes_no", "Do streams support compression?", "Yes."),
    _ask("product", "yes_no", "Do queues support compression?", lacks=("Yes.", "No. ")),
    _ask("garden", "yes_no", "Do roses tolerate frost?", "Yes."),
    _ask("garden", "yes_no", "Does mulch feed the soil?", "No.", "Mulch does not feed"),
    _ask("garden", "yes_no", "Do tomatoes tolerate frost?", lacks=("Yes.", "No. ")),
    # definition
    _ask("product", "definition", "What is Tarn?", "Tarn is a small message broker"),
    _ask("product", "definition", "What is a stream?", "A stream is a log"),
    _ask("handbook", "definition", "What is parental leave?", "Parental leave is unpaid"),
    _ask("garden", "definition", "What is mulch?", "Mulch is a layer"),
    _ask("garden", "definition", "Define compost", "Compost is decayed"),
    _ask("code", "definition", "What is ledgerkit.load?", "Read a ledger from a file", "path, encoding='utf-8'"),
    # lists
    _ask("code", "list", "Which functions does ledgerkit have?", "load", "loads", "dump", "archive", "clone", lacks=("balance",)),
    _ask("code", "list", "Which methods does ledgerkit.Ledger have?", "balance", "append", "remove", lacks=("loads",)),
    _ask("code", "list", "List the methods of Ledger", "balance", "append", "remove"),
    _ask("code", "list", "What classes are in ledgerkit?", "Ledger", lacks=("dump",)),
    _ask("handbook", "list", "Which sections does the travel policy have?", "Expenses", "Per diem"),
    _ask("product", "list", "What sections does the backup guide have?", "Creating a backup", "Restoring"),
    _ask("handbook", "list", "Which functions does the travel policy have?", lacks=("2 functions",)),
    _ask("handbook", "list", "Which documents are in policies?", "5 documents", "Travel", "Sick leave", "Remote work"),
    _ask("product", "list", "Which platforms are supported?", "Debian 12", "Ubuntu 24.04", "FreeBSD 14"),
    # steps and commands
    _ask("product", "steps", "How do I create a backup?", "Stop the broker", "Copy the folder", "Start the broker", "tarn verify"),
    _ask("product", "steps", "What are the steps to create a backup?", "Stop the broker", "tarn verify"),
    _ask("garden", "steps", "How do I prune roses?", "Disinfect", "dead wood", "five buds"),
    _ask("product", "steps", "How do I install Tarn?", "sudo apt install tarn", "tarn init --data /var/lib/tarn"),
    _ask("product", "steps", "How can I restore a backup?", "tarn repair"),
    # table
    _ask("handbook", "table", "What is the per diem for Norway?", "61 EUR", "per diem", "hotel limit", lacks=("27 EUR",)),
    _ask("handbook", "table", "What is the hotel limit in Portugal?", "105 EUR", "hotel limit"),
    # summary
    _ask("product", "summary", "Summarize the backup guide", "Summary of", "Creating a backup", "Restoring"),
    _ask("handbook", "summary", "What is the travel policy about?", "Summary of", "Train journeys", "Expenses"),
    _ask("code", "summary", "Give me an overview of ledgerkit", "Summary of", "Book-keeping in plain files", "load"),
    _ask("garden", "summary", "Summarise compost.txt", "Summary of", "decayed plant material"),
    # two in one
    _ask("product", "two", "How do I restore a backup and what is a stream?", "tarn repair", "A stream is a log", "[2]"),
    _ask("garden", "two", "When are roses pruned? How often is the compost heap turned?", "March", "every four weeks"),
    _ask("handbook", "two", "How many days of paid leave do employees have and who won the football world cup?", "28 days", "the documents do not cover"),
    _ask("handbook", "two", "Who approves flights? How long must receipts be kept?", "director", "ten years"),
    # code
    _ask("code", "code", "What is the signature of ledgerkit.dump?", "ledgerkit.dump(ledger, path)"),
    _ask("code", "code", "What arguments does ledgerkit.archive take?", "ledgerkit.archive(path, target)"),
    _ask("code", "code", "Show me an example of ledgerkit.load", ">>> ledgerkit.load('2024.ledger')"),
    _ask("code", "code", "How do I copy a ledger file?", first="ledgerkit.archive"),
    _ask("code", "code", "How do I copy an entry object?", first="ledgerkit.clone"),
    # no heading, no cut words
    _ask("handbook", "whole", "What equipment does the company provide?", "laptop, a headset and a screen"),
    _ask("garden", "whole", "Which pest is common on tomatoes in a greenhouse?", "Whiteflies are the most common pest"),
    _ask("code", "whole", "How do I remove an entry from a ledger?", "Remove an entry by its number", first="ledgerkit.Ledger.remove"),
    # conversation
    _ask("code", "conversation", "Give me an example.", ">>> ledgerkit.load", before=(("How do I load a ledger from a file?", LOADS),)),
    _ask("code", "conversation", "What does the second one do?", "from a string", first="ledgerkit.loads",
         before=(("How do I load a ledger from a file?", LOADS),)),
    _ask("product", "conversation", "And how do I restore it?", "tarn repair", before=(("How do I create a backup?", '"..." [1]'),)),
    _ask("garden", "conversation", "and mulch?", "Mulch", before=(("What is compost?", '"Compost is decayed" [1]'),)),
    _ask("product", "conversation", "What are its limits?", "4 MB", before=(("What is a queue?", '"A queue is a list" [1]'), ("Who is the pope?", U))),
    # typos
    _ask("product", "typo", "How do I crate a bakup?", "Stop the broker"),
    _ask("handbook", "typo", "How many days of payed leeve do employes have?", "28 days"),
    _ask("garden", "typo", "what is compst", "Compost is decayed"),
    _ask("garden", "typo", "Wehn are rosess pruned?", "March"),
    _ask("product", "typo", "supportd platfroms", "Debian 12"),
    # refusals that help
    _ask("product", "refusal", "How do I run Tarn on Kubernetes?", "Kubernetes", refused=True),
    _ask("garden", "refusal", "How do I grow bananas?", "bananas", refused=True),
    _ask("handbook", "refusal", "Summarize the submarine guide", "Not found: submarine", lacks=("Summarize",), refused=True),
    _ask("handbook", "refusal", "Who won the football world cup in 1998?", "I do not know", refused=True),
    # languages
    _ask("garden", "language", "Wie oft soll der Komposthaufen umgesetzt werden und warum?", "German", refused=True),
    _ask("handbook", "language", "Combien de jours de congé les employés ont-ils chaque année ?", "French", refused=True),
    # editions
    _ask("handbook", "edition", "How many days of paid leave do employees have?", "28 days", "2024-05-01", lacks=('"Employees have 25',), first="policies/leave-2024.md"),
    _ask("handbook", "edition", "How many days of paid leave did employees have in 2019?", "I do not know", refused=True),
    _ask("handbook", "edition", "How many days of paid leave did employees have in 2022?", "25 days", first="policies/leave-2022.md"),
    _ask("product", "edition", "On which port does the broker listen by default?", "5100", "2.0", first="guide/config-v2.md"),
)  # fmt: skip
