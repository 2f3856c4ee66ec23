"""Who may read a document: its label, and the rights that whoever asks has.

A label is one tenant, and where it names groups of that tenant at least one of them is needed. A document without a
label may be read by whoever may ask its collection. What is no label (missing where there must be one, or damaged)
lets nobody read. As text, which is how documents and chunks carry it: empty, ``TENANT`` or ``TENANT:GROUP,GROUP``.

Labels are declared in the catalogue of sources, in the setting ``data.access`` and in files named FOLDER_FILE, which
hold for their folder and everything below it. Where several hold, a document is for those whom all of them let read: a
label can only be narrowed. By the nearest one alone, a forgotten file deep in a tree would open what was closed above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from cluster.core.identity import Principal

FOLDER_FILE = ".plinth-access.yaml"
NOBODY_MAY = "!"
"""The text of what nobody may read; no tenant has this name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Rights:
    """What decides which documents somebody may read. Without a tenant: those that have no label.

    Attributes:
        groups: sorted.
    """

    tenant: str = ""
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """The rights that a key stands for."""
        return cls(principal.tenant, tuple(sorted(principal.groups)))


NO_RIGHTS = Rights()


@dataclass(frozen=True)
class Access:
    """A label. ``tenant`` is empty where there is none, NOBODY_MAY where nobody may read."""

    tenant: str = ""
    groups: frozenset[str] = frozenset()

    def allows(self, who: Rights | Principal) -> bool:
        """Whether somebody with these rights may read what has this label."""
        if not self.tenant:
            return not self.groups
        if self.tenant == NOBODY_MAY or who.tenant != self.tenant:
            return False
        return not self.groups or not self.groups.isdisjoint(who.groups)

    @property
    def text(self) -> str:
        """As documents carry it; ``of_text`` reads it."""
        return f"{self.tenant}:{','.join(sorted(self.groups))}" if self.groups else self.tenant

    @classmethod
    def declared(cls, tenant: object, groups: object = ()) -> Self:
        """A label as a person wrote it.

        Raises:
            ValueError: there is no tenant, or a name is none; the message says which.
        """
        if not isinstance(groups, list | tuple | set | frozenset):
            raise ValueError("groups: a list of names is needed")
        for what, name in (("tenant", tenant), *(("group", group) for group in groups)):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(f"{what} {name!r}: 1 to 64 letters, digits and . _ @ - are a name")
        return cls(str(tenant), frozenset(map(str, groups)))

    @classmethod
    def of_mapping(cls, body: Any) -> Self:
        """A label as YAML has it: ``tenant``, and ``groups`` where not the whole tenant may read.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(body, dict) or not {"tenant"} <= set(body) <= {"tenant", "groups"}:
            raise ValueError("a mapping with `tenant`, and `groups` if not all of it may read, is needed")
        groups = body.get("groups", ())
        if "groups" in body and not groups:
            raise ValueError("groups: nobody could read it; name one, or leave `groups` out")
        return cls.declared(body["tenant"], groups)

    @classmethod
    def of_setting(cls, text: str) -> Self:
        """A label as settings have it: its text.

        Raises:
            ValueError: it is none.
        """
        tenant, marked, groups = text.partition(":")
        return cls.declared(tenant, groups.split(",") if marked else ()) if text else cls()

    @classmethod
    def of_text(cls, text: object) -> Self:
        """The label that a document carries. Whatever is none lets nobody read."""
        try:
            return cls.of_setting(text) if isinstance(text, str) else cls(NOBODY_MAY)
        except ValueError:
            return cls(NOBODY_MAY)

    def narrowed(self, inner: Access) -> Access:
        """The label of what both labels hold for.

        Raises:
            ValueError: nobody could read it.
        """
        if not self.tenant or not inner.tenant:
            return inner if not self.tenant else self
        groups = self.groups & inner.groups if self.groups and inner.groups else self.groups | inner.groups
        if self.tenant != inner.tenant or (self.groups and inner.groups and not groups):
            raise ValueError(f"{inner.text!r} has nothing in common with {self.text!r}, which holds there too")
        return Access(self.tenant, groups)


def access_counts(documents: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """What the counts of a manifest say of labels, by label how many documents have it; nothing where none has one."""
    found = {label: count for label, count in sorted(documents.items()) if count}
    return {"access": found} if any(found) else {}


def all_readable(labels: Iterable[str], who: Rights | Principal) -> bool:
    """Whether somebody may read the documents of every one of these labels."""
    return all(Access.of_text(label).allows(who) for label in labels)


def readable(labels: Iterable[str], who: Rights | Principal) -> frozenset[str]:
    """Of labels as documents carry them, those of what somebody may read."""
    return frozenset(label for label in labels if Access.of_text(label).allows(who))
