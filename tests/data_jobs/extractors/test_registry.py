"""The table of formats: what is derived from it elsewhere."""

from __future__ import annotations

import importlib.metadata

from data_jobs.extractors.registry import EXTRACTORS, FORMATS, LIBRARIES, RECORD_SUFFIXES, extractor_for


def test_every_suffix_belongs_to_one_format() -> None:
    suffixes = [suffix for known in FORMATS for suffix in known.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
    assert all(
        extractor_for(f"a{suffix}") is extractor for extractor in EXTRACTORS for suffix in extractor.format.suffixes
    )
    assert set(RECORD_SUFFIXES) < set(suffixes)


def test_what_a_server_declares_gets_a_suffix_of_its_format() -> None:
    declared = [kind for known in FORMATS for kind in known.content_types]
    assert len(declared) == len(set(declared)) > 8
    assert all(suffix in known.suffixes for known in FORMATS for suffix in known.content_types.values())


def test_libraries_are_named_as_they_are_installed() -> None:
    assert all(importlib.metadata.version(name) for name in LIBRARIES)
