"""Calls of a request to guard and retriever: each notes in the request's record how long it took and what it decided.

Whatever goes wrong with a guard counts as a guard that is down: the request fails closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from cluster.core.access import Rights, readable
from cluster.core.records import Passage, Verdict
from data_jobs.retrieval.examples import Example
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import NO_COLLECTION, ApiError, UnavailableError, bad_request
from serve_apps.gateway.permitted import permitted
from serve_apps.gateway.protocols import GuardClient, RetrieverClient
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.waiting import or_unavailable, together
from serve_apps.guards.characters import visible
from serve_apps.guards.policy import Policies, load_policies
from serve_apps.guards.protocol import IN, OUT, PASSAGES, InputCheck, OutputCheck
from serve_apps.guards.window import Placeholders

GUARD = "the safety guard (nothing is sent unchecked)"
Check = TypeVar("Check", InputCheck, OutputCheck)
LEFT_OUT = "passages that hold what may not leave here were left out"


@contextmanager
def _as_it_was_named(record: RequestRecord) -> Iterator[None]:
    """Let the error of a collection that has just gone point to the field in which the client named it."""
    try:
        yield
    except ApiError as error:
        if error.extras.get("code") == NO_COLLECTION:
            error.extras["param"] = record.collection_param
        raise


class Hops:
    """Guard and retriever as a request meets them.

    Args:
        guard_timeout_s: a guard that has not answered by then counts as down.
        policies: what the guards' verdicts come to; None: those that are shipped.
        note_review: is told the verdicts on a text of a collection and tenant, where one of them is to be reviewed;
            None: nobody is.
    """

    def __init__(
        self,
        guard: GuardClient,
        retriever: RetrieverClient,
        guard_timeout_s: float,
        policies: Policies | None = None,
        note_review: Callable[[Sequence[Verdict], str, str, str], None] | None = None,
    ) -> None:
        self._guard, self._retriever, self._timeout_s = guard, retriever, guard_timeout_s
        self._note_review = note_review
        self.policies = policies or load_policies()

    async def guard_in(
        self, texts: list[str], record: RequestRecord, param: str = "messages", first: int | None = None,
        prompts: bool = True,
    ) -> list[InputCheck]:  # fmt: skip
        """Check what a client sent.

        Args:
            first: the place of the first of these texts in a list of them in ``param``; None: that is no list.
            prompts: as ``GuardClient.check_input``.

        Raises:
            ApiError: 400, a guard refused a text; ``param`` names the field it came in, and its place there.
            UnavailableError: the guard is down.
        """
        collection = record.collection  # as asked: the search beside this notes what it was by and by
        with record.stage("guard_in"):
            checks = await or_unavailable(self._guard.check_input(texts, prompts), self._timeout_s, GUARD)
        if len(checks) != len(texts):
            raise UnavailableError(f"{GUARD} checked another number of texts than it was given")
        checks = [self._applied(check, record.tenant, collection) for check in checks]
        verdicts = tuple(verdict for check in checks for verdict in check.verdicts)
        record.judged(verdicts or (Verdict(IN, "allow"),))
        for check in checks:
            if self._note_review and any(verdict.action == "review" for verdict in check.verdicts):
                self._note_review(check.verdicts, check.text, collection, record.tenant)
        for place, check in enumerate(checks):
            if verdict := check.blocked:
                what, where = ("the input", param) if first is None else (at := place_of(param, first + place), at)
                message = f"{what} was refused by the rule {verdict.rule}: {verdict.detail}"
                raise bad_request(message, where, "content_policy_violation")
        return checks

    async def guard_leaving(self, texts: list[str], record: RequestRecord) -> list[InputCheck]:
        """Check what would leave the house for another server. A blocked text is the caller's to keep back.

        Raises:
            UnavailableError: the guard is down.
        """
        with record.stage("guard_leaving"):
            checks = await or_unavailable(self._guard.check_input(texts, False), self._timeout_s, GUARD)
        if len(checks) != len(texts):
            raise UnavailableError(f"{GUARD} checked another number of texts than it was given")
        return checks

    async def guard_out(self, texts: list[str], record: RequestRecord) -> list[OutputCheck]:
        """Check what would leave. A blocked text is the caller's to withhold.

        Raises:
            UnavailableError: the guard is down.
        """
        tenant, collection = record.tenant, record.collection
        with record.stage("guard_out"):
            checks = await or_unavailable(self._guard.check_output(texts), self._timeout_s, GUARD)
            rules = await self._rules_out(texts, tenant, collection)
        if not len(checks) == len(rules) == len(texts):
            raise UnavailableError(f"{GUARD} checked another number of texts than it was given")
        checks = [
            self._applied(
                replace(check, verdicts=(*check.verdicts, *found, *self.policies.withheld(text, tenant, collection))),
                tenant, collection,
            )
            for check, found, text in zip(checks, rules, texts, strict=True)
        ]  # fmt: skip
        record.judged(tuple(verdict for check in checks for verdict in check.verdicts))
        return checks

    async def _rules_out(self, texts: list[str], tenant: str, collection: str) -> list[tuple[Verdict, ...]]:
        """What the rules find in what would leave, where a policy wants to know; what they cannot read is blocked."""
        if not texts or not self.policies.output(tenant, collection):
            return [()] * len(texts)
        checks = await or_unavailable(self._guard.check_input(texts, False), self._timeout_s, GUARD)
        return [
            tuple(replace(one, stage=OUT) for one in check.verdicts if one.guard == "rules" or not check.text)
            for check in checks
        ]

    async def searched_for(self, found: Retrieval, record: RequestRecord) -> str:
        """What was searched for in place of the question, as it may leave; empty where that was the question.

        Raises:
            UnavailableError: the guard is down.
        """
        meant = found.understood.searched_for
        checks = await self.guard_out([meant], record) if meant else []
        return passed(meant, checks, Placeholders())

    def waits(self, text: str, record: RequestRecord) -> int:
        """From which place on a text that was checked and may go on growing has to wait."""
        return self.policies.forbidden(record.tenant, record.collection).begun(text)

    def whole(self, record: RequestRecord) -> bool:
        """Whether an answer may leave only once all of it was checked."""
        return "block" in self.policies.output(record.tenant, record.collection)

    def _applied(self, check: Check, tenant: str, collection: str) -> Check:
        """A check with the verdicts that a policy makes of the guards'."""
        return replace(check, verdicts=self.policies.applied(check.verdicts, tenant, collection))

    async def search(self, question: str, k: int | None, record: RequestRecord) -> Retrieval:
        """Find passages that whoever asks may read, and that hold nothing which may not leave here.

        Raises:
            UnavailableError: there is no index, or it found what may not be read: then nothing of it goes on.
        """
        rights = Rights.of(record.principal)
        with record.stage("retriever"), _as_it_was_named(record):
            found = await self._retriever.search(question, k, record.collection, rights)
        labels = found.labels
        if labels - readable(labels, rights):
            raise UnavailableError("the index found documents that this key may not read")
        record.collection = found.collection or record.collection
        return self._permitted(found, record)

    def _permitted(self, found: Retrieval, record: RequestRecord) -> Retrieval:
        """A search without what is forbidden; a verdict tells of each passage."""
        if not self.policies.forbidden(record.tenant, record.collection).texts:
            return found
        verdicts: list[Verdict] = []

        def withheld(*texts: str) -> bool:
            said = self.policies.withheld("\n".join(texts), record.tenant, record.collection)
            verdicts.extend(replace(one, stage=PASSAGES, action="redact", detail=LEFT_OUT) for one in said)
            return bool(said)

        def barred(passage: Passage) -> bool:
            """All that an answer may show of a passage counts: its name, and those of its copies, too."""
            copies = (said for copy in passage.also for said in copy)
            within = passage.context, passage.header, passage.title, passage.text
            return withheld(passage.document, passage.source, *within, *copies)

        found, _ = permitted(found, barred)
        outline = found.understood.outline
        if outline is not None and withheld(outline.document, outline.title, *outline.parts):
            found = replace(found, understood=replace(found.understood, outline=None))
        record.judged(tuple(dict.fromkeys(verdicts)))
        return found

    async def examples(self, count: int, record: RequestRecord) -> tuple[str, list[Example]]:
        """The live index's version and at most ``count`` questions of its documents.

        Raises:
            UnavailableError: no index is live.
        """
        with _as_it_was_named(record):
            version, found = await or_unavailable(
                self._retriever.examples(count, record.collection, Rights.of(record.principal)),
                self._timeout_s, "the index",
            )  # fmt: skip
        record.index_version = version
        return version, found

    async def topics(self, count: int, record: RequestRecord) -> list[str]:
        """At most ``count`` things that the documents are about.

        Raises:
            UnavailableError: no index is live.
        """
        with record.stage("retriever"), _as_it_was_named(record):
            found = self._retriever.topics(count, record.collection, Rights.of(record.principal))
            return await or_unavailable(found, self._timeout_s, "the index")

    async def embed(self, texts: list[str], record: RequestRecord) -> list[list[float]]:
        """Vectors of checked texts, in their order."""
        with record.stage("embed"):
            vectors = await self._retriever.embed(texts)
        if len(vectors) != len(texts):
            raise UnavailableError("the embedder returned another number of vectors than texts")
        return vectors

    async def collections(self) -> list[dict[str, Any]]:
        """What is known of every collection.

        Raises:
            UnavailableError: the retriever does not say.
        """
        return await or_unavailable(self._retriever.collections(), self._timeout_s, "the retriever")

    async def embed_questions(self, texts: list[str]) -> tuple[str, list[list[float]]]:
        """See ``RetrieverClient``."""
        return await or_unavailable(self._retriever.embed_questions(texts), self._timeout_s, "the embedder")

    async def ready(self) -> dict[str, Any]:
        """Facts about the live index, once index and guard answer.

        Raises:
            UnavailableError: one of them does not.
        """
        info, _ = await together(
            or_unavailable(self._retriever.info(), self._timeout_s, "the index"),
            or_unavailable(self._guard.check_input(["ready"]), self._timeout_s, GUARD),
        )
        return info


def passed(text: str, checks: Sequence[OutputCheck], placeholders: Placeholders) -> str:
    """A text beside an answer, as far as it may leave by its check: nothing of one that is blocked, or was not made."""
    return "".join(placeholders.redact(text, check.spans) for check in checks if not check.blocked)


def place_of(param: str, place: int) -> str:
    """How an error names one text of a list."""
    return f"{param}[{place}]"


def something_to_see(text: str, param: str) -> str:
    """The text, unless a reader would see nothing of it.

    Raises:
        ApiError: 400, there are only invisible characters; ``param`` names the field it came in.
    """
    if not visible(text).strip():
        raise bad_request(f"{param}: there is nothing but invisible characters in it", param)
    return text
