"""The same preparation by datatrove's local executor: what ours is measured against. Needs the package datatrove.

Its published recipe of a web corpus (FineWeb), without what needs the network: read, repair (ftfy), Gopher and C4
quality filters, MinHash signatures, buckets, clusters, filter, personal data, tokens. English words are split as
datatrove does by default (spaCy); ``words="simple"`` gives it one regular expression instead, as cheap as ours.
"""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, EnvironmentFaultError

STEPS = (
    "read jsonl", "ftfy", "Gopher repetition", "Gopher quality", "C4 quality", "MinHash 14x8 of 5-grams", "cluster",
    "PII (e-mail, IP)", "write jsonl", "tokens",
)  # fmt: skip


def run(folder: Path, scratch: Path, workers: int, tasks: int, tokenizer: Path, end: str, words: str) -> dict[str, Any]:
    """Prepare the .jsonl files of ``folder``.

    Returns:
        ``seconds`` in all and by ``stages``, and the ids of the ``kept`` documents.

    Raises:
        BadInputError: its filters leave no document.
        EnvironmentFaultError: datatrove or what it needs is not installed.
    """
    try:
        pipelines = _pipelines(folder, scratch, tokenizer, end, words)
        from datatrove.executor.local import LocalPipelineExecutor
        from loguru import logger
    except ImportError as error:
        raise EnvironmentFaultError(f"the comparison needs the development packages: {error}") from error
    logger.remove()
    stages: dict[str, float] = {}
    for name, (pipeline, number) in pipelines.items():
        began = time.perf_counter()
        LocalPipelineExecutor(
            pipeline, tasks=number or tasks, workers=workers, logging_dir=str(scratch / "logs" / name),
            start_method="fork",
        ).run()  # fmt: skip
        stages[name] = round(time.perf_counter() - began, 3)
        if not any((scratch / "filtered").glob("*")):
            raise BadInputError("datatrove's Gopher and C4 filters leave nothing of these texts: give --path others")
    kept = []
    for file in sorted((scratch / "output").glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            kept += [json.loads(line)["id"] for line in lines]
    return {"seconds": round(sum(stages.values()), 3), "stages": stages, "kept": kept}


def _pipelines(
    folder: Path, scratch: Path, tokenizer: Path, end: str, words: str
) -> dict[str, tuple[list[Any], int | None]]:
    """Stage -> (pipeline, its number of tasks or None for one a file)."""
    from datatrove.pipeline.dedup import minhash
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter

    language: Any = _simple_words() if words == "simple" else "eng"
    paths = {name: str(scratch / name) for name in ("filtered", "signatures", "buckets", "remove", "output", "tokens")}
    config = minhash.MinhashConfig()
    return {
        "filter": (
            [
                JsonlReader(str(folder)), FTFYFormatter(), GopherRepetitionFilter(language=language),
                GopherQualityFilter(language=language), C4QualityFilter(language=language),
                JsonlWriter(paths["filtered"]),
            ], None,
        ),
        "signatures": (
            [
                JsonlReader(paths["filtered"]),
                minhash.MinhashDedupSignature(paths["signatures"], config=config, language=language),
            ], None,
        ),
        "buckets": (
            [minhash.MinhashDedupBuckets(paths["signatures"], paths["buckets"], config=config)], config.num_buckets,
        ),
        "cluster": ([minhash.MinhashDedupCluster(paths["buckets"], paths["remove"], config=config)], 1),
        "finish": (
            [
                JsonlReader(paths["filtered"]), minhash.MinhashDedupFilter(paths["remove"]), PIIFormatter(),
                JsonlWriter(paths["output"]),
                DocumentTokenizer(
                    paths["tokens"], str(tokenizer), eos_token=end, shuffle_documents=False,
                    local_working_dir=str(scratch / "working"),
                ),
            ], None,
        ),
    }  # fmt: skip


def _simple_words() -> Any:
    import re

    from datatrove.utils.word_tokenizers import WordTokenizer

    word, sentence = re.compile(r"\w+|[^\w\s]"), re.compile(r"[^.!?]+[.!?]*\s*")

    class SimpleWords(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return word.findall(text)

        def sent_tokenize(self, text: str) -> list[str]:
            return [part for part in sentence.findall(text) if part.strip()]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [match.span() for match in sentence.finditer(text)]

    return SimpleWords("en")
