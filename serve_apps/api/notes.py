"""What an answer says of the request it answers: options without effect, and turns that were not looked at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from serve_apps.gateway.exchange import Done, Event
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.tiers import Tiers


@dataclass(frozen=True)
class Notes:
    """Of one request.

    Attributes:
        without_effect: options that were sent and shape nothing here.
        sampling: options of sampling that were sent; which of them count depends on the tier that answers.
        sent, looked_at: messages of the conversation.
    """

    without_effect: tuple[str, ...]
    sampling: tuple[str, ...]
    sent: int
    looked_at: int

    def ignored(self, takes: Sequence[str]) -> list[str]:
        """What had no effect on an answer for which these options counted; in the order of the alphabet."""
        return sorted({*self.without_effect, *(name for name in self.sampling if name not in takes)})


async def noted(
    events: AsyncGenerator[Event, None], notes: Notes, tiers: Tiers, continues: bool, record: RequestRecord
) -> AsyncGenerator[Event, None]:
    """The events, the last of them with the notes under ``plinth``: ``ignored`` (names of options) and ``messages``
    (how many were sent, how many looked at). The record learns when the first text was there.

    Args:
        continues: a named tier was to continue a text, which every language model samples.
    """
    async with aclosing(events):
        async for event in events:
            if not isinstance(event, Done):
                record.first_text_ms = record.first_text_ms or record.elapsed_ms
                yield event
                continue
            state = tiers.state(event.plinth["tier"])
            samples = state is not None and (state.samples or (continues and state.continues))
            said = {
                "ignored": notes.ignored(state.takes if samples and state is not None else ()),
                "messages": {"sent": notes.sent, "looked_at": notes.looked_at},
            }
            yield replace(event, plinth={**event.plinth, **said})
