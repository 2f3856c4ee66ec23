"""What people say of answers, in a database: whose each answer was for a while, and what was said of it.

Of an answer itself no text is kept, but a keyed hash of question and text: what somebody sends along with feedback is
kept only if it was really asked and answered. Whatever is kept as text was redacted before (``gateway/feedback``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sql

from actors.ledger.database import Database, put_all
from actors.ledger.keyring import digest_of

ROOM = "feedback"
DAY_S = 86400.0
MOST_ANSWERS = 200_000  # the newest ones, between two calls of ``tidy`` more
Rating = Literal["up", "down", "none"]
TEXTS = ("correction", "comment", "question", "answer")  # of feedback, what people write
TABLES = sql.MetaData()
_ANSWERS = sql.Table(
    "feedback_answers", TABLES,
    sql.Column("answer_id", sql.String(64), primary_key=True),
    sql.Column("tenant", sql.String(64), nullable=False, index=True),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("digest", sql.String(64), nullable=False),
    sql.Column("made_of", sql.Text, nullable=False),
)  # fmt: skip
_SAID = sql.Table(
    "feedback_said", TABLES,
    sql.Column("answer_id", sql.String(64), primary_key=True),
    sql.Column("key_id", sql.String(64), primary_key=True),
    sql.Column("tenant", sql.String(64), nullable=False, index=True),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("rating", sql.String(8), nullable=False),
    sql.Column("consent", sql.Boolean, nullable=False),
    *(sql.Column(name, sql.Text, nullable=False) for name in (*TEXTS, "made_of")),
)  # fmt: skip


@dataclass(frozen=True)
class MadeOf:
    """What an answer was made of. ``labelled``: of a document that not everybody may read; ``documents``: (id, source)
    of all that were found for it."""

    tier: str = ""
    model_version: str = ""
    collection: str = ""
    index_version: str = ""
    labelled: bool = False
    documents: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_json(cls, text: str) -> MadeOf:
        """The reverse of ``json.dumps(asdict(...))``."""
        row = json.loads(text)
        return cls(**{**row, "documents": tuple((one, source) for one, source in row["documents"])})


@dataclass(frozen=True)
class Given:
    """An answer that was given, and whose it was; ``digest`` as ``digest_of_answer`` makes it."""

    answer_id: str
    tenant: str
    digest: str
    made_of: MadeOf = field(default_factory=MadeOf)


@dataclass(frozen=True)
class Feedback:
    """What somebody says of an answer.

    Attributes:
        rating: ``none`` takes back what the same key said before.
        consent: it may be used to train models. Without it neither question nor answer is kept.
        question, answer: as they were asked and answered; both or neither.
        at: seconds since the epoch.
    """

    answer_id: str
    rating: Rating
    consent: bool = False
    correction: str = ""
    comment: str = ""
    question: str = ""
    answer: str = ""
    key_id: str = ""
    tenant: str = ""
    at: float = 0.0
    made_of: MadeOf = field(default_factory=MadeOf)


class FeedbackBook:
    """The book itself; see the module. Every call may block, and raises EnvironmentFaultError where the database does
    not answer.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    @classmethod
    def of(cls, home: Path, url: str = "") -> FeedbackBook:
        """The book of this machine, or of ``trust.ledger.url``."""
        return cls(Database.of(home, url, ROOM, TABLES))

    def note(self, answers: Sequence[Given]) -> None:
        """Remember whose answers these were."""
        now = self._clock()
        rows = [
            {
                "answer_id": one.answer_id, "tenant": one.tenant, "at": now, "digest": one.digest,
                "made_of": json.dumps(vars(one.made_of)),
            }
            for one in answers
        ]  # fmt: skip
        with self._database.writing() as connection:
            put_all(connection, _ANSWERS, rows)

    def find(self, answer_id: str, tenant: str) -> Given | None:
        """An answer of this tenant; None: there is none, it is another's, or nobody knows any more."""
        wanted = _ANSWERS.select().where(_ANSWERS.c.answer_id == answer_id, _ANSWERS.c.tenant == tenant)
        with self._database.reading() as connection:
            row = connection.execute(wanted).mappings().first()
        if row is None:
            return None
        return Given(row["answer_id"], row["tenant"], row["digest"], MadeOf.of_json(row["made_of"]))

    def say(self, said: Feedback) -> None:
        """Keep what a key says of an answer instead of what it said before."""
        own = (_SAID.c.answer_id == said.answer_id, _SAID.c.key_id == said.key_id)
        with self._database.writing() as connection:
            connection.execute(_SAID.delete().where(*own))
            if said.rating != "none":
                row = {**asdict(said), "at": self._clock(), "made_of": json.dumps(asdict(said.made_of))}
                connection.execute(_SAID.insert().values(row))

    def entries(self, keep_days: int, tenant: str = "", most: int | None = None) -> list[Feedback]:
        """What was said in these days, of one tenant or (empty) of all, newest first."""
        wanted = _SAID.select().where(_SAID.c.at >= self._clock() - keep_days * DAY_S)
        if tenant:
            wanted = wanted.where(_SAID.c.tenant == tenant)
        wanted = wanted.order_by(_SAID.c.at.desc(), _SAID.c.answer_id, _SAID.c.key_id).limit(most)
        with self._database.reading() as connection:
            return [_said(row) for row in connection.execute(wanted).mappings()]

    def tidy(self, answer_days: int, keep_days: int) -> int:
        """Remove what is older than it may be, and answers beyond MOST_ANSWERS; how many rows."""
        now = self._clock()
        beyond = (
            sql.select(_ANSWERS.c.at).order_by(_ANSWERS.c.at.desc()).offset(MOST_ANSWERS).limit(1).scalar_subquery()
        )
        gone = (
            _ANSWERS.delete().where(_ANSWERS.c.at < now - answer_days * DAY_S),
            _ANSWERS.delete().where(_ANSWERS.c.at <= beyond),
            _SAID.delete().where(_SAID.c.at < now - keep_days * DAY_S),
        )
        with self._database.writing() as connection:
            return sum(connection.execute(one).rowcount for one in gone)

    def erase_tenant(self, tenant: str) -> int:
        """Remove all that is a tenant's; how many of its feedback."""
        with self._database.writing() as connection:
            connection.execute(_ANSWERS.delete().where(_ANSWERS.c.tenant == tenant))
            return int(connection.execute(_SAID.delete().where(_SAID.c.tenant == tenant)).rowcount)

    def erase_documents(self, covers: Callable[[str, str], bool]) -> int:
        """Remove all about answers that were made of documents which ``covers`` (id, source) says; how many of the
        feedback."""
        with self._database.writing() as connection:
            counts = [len(list(_erased(connection, table, covers))) for table in (_ANSWERS, _SAID)]
        return counts[1]


def digest_of_answer(pepper: bytes, question: str, answer: str) -> str:
    """By what question and answer are recognised again."""
    return digest_of(pepper, f"answer.{len(question)}.{question}{answer}")


def _erased(connection: sql.Connection, table: sql.Table, covers: Callable[[str, str], bool]) -> Iterator[None]:
    keys = list(table.primary_key.columns)
    for row in connection.execute(sql.select(*keys, table.c.made_of)).all():
        if any(covers(document, source) for document, source in MadeOf.of_json(row.made_of).documents):
            connection.execute(table.delete().where(*(key == value for key, value in zip(keys, row[:-1], strict=True))))
            yield


def _said(row: Any) -> Feedback:
    return Feedback(**{**row, "made_of": MadeOf.of_json(row["made_of"])})
