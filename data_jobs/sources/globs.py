"""Locations that are patterns: ``handbook/**/*.md`` means files of a folder, here as in a shell."""

from __future__ import annotations

import re
from pathlib import Path

from cluster.core.errors import BadInputError

_MAGIC = re.compile(r"[*?\[]")


def split_glob(location: str) -> tuple[Path, str]:
    """The folder a local location is in, and the pattern of paths below it (empty: all of them).

    Raises:
        BadInputError: a file that is not there.
    """
    path = Path(location)
    if not _MAGIC.search(location):
        if path.is_file():
            return path.parent, _literal(path.name)
        return path, ""
    parts = path.parts
    first = next(at for at, part in enumerate(parts) if _MAGIC.search(part))
    folder = Path(*parts[:first])
    if not folder.is_dir():
        raise BadInputError(f"there is no folder {folder} for the pattern {location}")
    return folder, "/".join(parts[first:])


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def matches(pattern: str, path: str) -> bool:
    """Whether a path matches a glob: ``*`` and ``?`` within one part, ``**`` any number of parts."""
    return not pattern or _glob(pattern).fullmatch(path) is not None


def _glob(pattern: str) -> re.Pattern[str]:
    """``[...]`` as in fnmatch. Every star stops at a slash, so that matching stays linear in practice."""
    out = []
    for part in pattern.split("/"):
        if part == "**":
            out.append("(?:[^/]+/)*")
            continue
        at, made = 0, ""
        while at < len(part):
            end = part.find("]", at + 2) if part[at] == "[" else -1
            if end > 0:
                inside = part[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
                made += f"[^{inside[1:]}]" if inside[0] == "!" else f"[{inside}]"
                at = end
            else:
                made += {"*": "[^/]*", "?": "[^/]"}.get(part[at], re.escape(part[at]))
            at += 1
        out.append(f"{made}/")
    return re.compile("".join(out).removesuffix("/") if pattern.split("/")[-1] != "**" else "".join(out) + "[^/]+")
