"""plinth quickstart: from nothing to cited answers and a model of one's own in one command, resumable at any point."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from cluster import local_head
from cluster.cli.ask import print_answer, stream_answer
from cluster.cli.index.collections import default_changed
from cluster.cli.jobs import tell_waiting
from cluster.cli.keys import sign_in_link
from cluster.cli.output import Stages, console, print_json
from cluster.cli.service import deploy, start_head, wait_for
from cluster.cli.training import train
from cluster.cli.verbs import Commands, add_verb
from cluster.connect import connected
from cluster.core.config import PlinthConfig
from cluster.core.errors import ExitCode, PlinthError, UsageError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Collections, Store
from cluster.job_book import entered

UNANSWERABLE = "How can I bake a chocolate cake?"
COVERS = "What do these documents cover?"

STAGE_LOGS = {
    "start Ray (token, loopback)": "ray_head.log",
    "prepare the corpus": "data.jsonl",
    "build the index": "data.jsonl",
    "deploy the service": "gateway.jsonl",
    "train the tokenizer": "train.jsonl",
    "pretrain the model": "train.jsonl",
    "make examples": "train.jsonl",
    "fine-tune the model": "train.jsonl",
    "evaluate and publish the model": "train.jsonl",
    "take the model live": "model.jsonl",
}

TOTAL_S = 345.0  # what the whole command may take on a fast laptop; training gets what the other stages leave
BESIDE_TRAINING_S = 55.0  # making examples, evaluation, publication, going live


def register(commands: Commands) -> None:
    """Declare ``plinth quickstart``: from which source, under which name, with how much training."""
    parser = add_verb(
        commands, "quickstart", quickstart, "Start everything, index documents, answer questions, leave it running.",
        "Stages: check the machine, start Ray, prepare the corpus, build the index, deploy the service, ask; then,\n"
        "while it already answers, train a small model on the corpus, judge it on held-out documents, and serve it\n"
        "if it passed its gate. A second run reuses what is finished. Ctrl-C at any time; the same command goes on\n"
        "where it stopped. Another source becomes another collection, and the default one; those that are there stay.",
    )  # fmt: skip
    parser.add_argument("--source", help="`pydocs` (default) or a folder of files")
    parser.add_argument("--name", help="name of the dataset (default: from the source)")
    parser.add_argument(
        "--collection", default="", metavar="NAME",
        help="collection of the index (default: the one that has the source already, else a new one)",
    )  # fmt: skip
    parser.add_argument(
        "--train-minutes", type=float, metavar="M",
        help="minutes of training (default: what is left of six, at least train.minutes; 0: none)",
    )  # fmt: skip


def quickstart(args: argparse.Namespace) -> int:
    """Print the answers, the seconds of each stage and where the service is; exit code 0. A job in the job book.

    Raises:
        UsageError: ``--train-minutes`` is negative or no number.
        PlinthError: whatever a stage raised, with the stage and its log in the message.
    """
    with entered("quickstart", "", args, sys.argv[1:], tell_waiting(args)) as entry:
        return _quickstart(args, Stages(show=not args.json, follower=entry))


def _quickstart(args: argparse.Namespace, stages: Stages) -> int:
    from data_jobs.commands import configure
    from data_jobs.sources.registry import source_for

    home, began = Home.from_env(), time.monotonic()
    config = configure(args, home)
    if args.train_minutes is not None and not 0 <= args.train_minutes < math.inf:
        raise UsageError(f"--train-minutes {args.train_minutes}: give minutes, 0 or more")
    source_for(config.data).check(config.data)  # before anything is started
    try:
        instance = start_head(config, home, stages)
        dataset, index, before = _prepare_and_index(config, home, args.collection, stages)
        deploy(config, home, instance, stages)
        with stages.run("load the index"):
            wait_for(instance.base_url, "/readyz", home)
            _wait_for_version(instance.base_url, index.version, home)
        answers = _ask(config, instance.base_url, dataset, Store(home.store_uri), args.json, stages)
        if args.train_minutes is None:
            seconds = training_seconds(time.monotonic() - began, config.train)
        else:
            seconds = args.train_minutes * 60
        trained = None
        if args.train_minutes != 0:
            trained = train(config, home, instance.base_url, (dataset, index), seconds, stages)
    except PlinthError as error:
        log = STAGE_LOGS.get(stages.current)
        hint = f" (stage '{stages.current}'; log: {home.logs / log})" if log else ""
        raise type(error)(f"{error.message}{hint}", **error.extras) from error
    if args.json:
        print_json({
            "base_url": instance.base_url, "dataset": dataset.version, "index": index.version,
            "collection": index.name, "default_before": before,
            "seconds": stages.seconds, "answers": answers, "model": trained,
        })  # fmt: skip
        return ExitCode.DONE
    console.print()
    stages.table()
    if before != index.name:
        console.print()
        console.print(default_changed(before, index.name), soft_wrap=True)
    _say_goodbye(instance, sign_in_link(args, instance.base_url), home, to_ask([str(a["question"]) for a in answers]))
    return ExitCode.DONE


def to_ask(asked: Sequence[str]) -> str:
    """A question for this corpus that a shell and JSON take as it stands, in a short line: the first one that was asked
    if it does, else what the documents are about."""
    first = asked[0] if asked else ""
    return first if re.fullmatch(r"[A-Za-z0-9 ._,?-]{8,55}", first) else COVERS


def training_seconds(spent: float, section: TrainSection) -> float:
    """Budget of training after ``spent`` seconds of the command: what is left of ``TOTAL_S``. On a slow machine, where
    the stages before took long, it is ``train.minutes`` all the same."""
    return max(TOTAL_S - BESIDE_TRAINING_S - spent, section.minutes * 60)


def _prepare_and_index(
    config: PlinthConfig, home: Home, collection: str, stages: Stages
) -> tuple[Manifest, Manifest, str]:
    """The dataset, its index, which answers by default from now on, and the collection that did so before."""
    from data_jobs.commands import into
    from data_jobs.indexing.adapted import as_it_answers
    from data_jobs.indexing.collection import collection_for

    store = Store(home.store_uri)
    collections = Collections(store, config.index.name)
    with connected(home):
        from data_jobs.build_index import build
        from data_jobs.prepare_corpus import prepare

        with stages.run("prepare the corpus"):
            dataset = prepare(config, store, stages)
            counts = dataset.counts
            left_out = counts["records_in"] - counts["kept"]
            stages.note(f"{counts['kept']:,} documents kept, {left_out:,} left out")
        with stages.run("build the index"):
            name = collection_for(store, config.index.name, dataset, collection)
            index = build(into(config, name), store, dataset, stages)
            stages.note(f"{index.counts['chunks']:,} chunks in the collection {name}")
    index = as_it_answers(store, index)
    collections.go_live(name, index.version, why="quickstart")
    return dataset, index, collections.use(name, why="quickstart")


def _wait_for_version(base_url: str, version: str, home: Home) -> None:
    """Until the retriever serves the index just built (it follows the alias)."""
    from cluster.cli.service import READY_TIMEOUT_S
    from cluster.core.errors import EnvironmentFaultError
    from cluster.loopback import api_key, get

    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        reply = get(f"{base_url}/readyz", 5, api_key())
        if reply.status == 200 and reply.json().get("index_version") == version:
            return
        time.sleep(0.1)
    raise EnvironmentFaultError(f"index {version} did not go live; see {home.logs / 'retriever.jsonl'}")


def _ask(
    config: PlinthConfig, base_url: str, dataset: Manifest, store: Store, quiet: bool, stages: Stages
) -> list[dict[str, Any]]:
    questions = _questions(config, dataset, store)
    with stages.run("answer three questions"):
        answers = [
            {"question": question, **stream_answer(base_url, [{"role": "user", "content": question}], "auto", None)}
            for question in questions
        ]
    for answer in () if quiet else answers:
        console.print(f"\n[bold]{escape(answer['question'])}[/bold]")
        print_answer(answer)
    return answers


def _questions(config: PlinthConfig, dataset: Manifest, store: Store) -> tuple[str, ...]:
    """Two that the source knows to be answered, or made of the dataset's titles, and one that it cannot answer."""
    from data_jobs.corpus.parquet import read_table
    from data_jobs.retrieval.examples import REDACTED
    from data_jobs.sources.registry import source_for

    if known := source_for(config.data).questions:
        return (*known, UNANSWERABLE)

    files = [f.path for f in dataset.files if f.path.startswith("documents-")]
    titles: list[str] = []
    for path in files:
        titles += read_table(store.read(f"{store.artefact(dataset)}/{path}"), ["title"]).column("title").to_pylist()
        if len(titles) > 200:
            break
    titles = [title for title in titles if not REDACTED.search(title)]
    chosen = titles[:: max(1, len(titles) // 2)][:2]
    return (*(f"What is said about {title}?" for title in chosen), UNANSWERABLE)


def _say_goodbye(instance: local_head.Instance, page: str, home: Home, question: str) -> None:
    key = home.api_key_path if home.api_key() else None
    text = goodbye(instance.base_url, instance.dashboard_url, _command(), page, key, question)
    for line in text.splitlines():
        heading = line and not line.startswith(" ")
        console.print(f"[bold]{line}[/bold]" if heading else line, soft_wrap=True, markup=bool(heading))


def goodbye(base_url: str, dashboard_url: str, plinth: str, page: str, key: Path | None, question: str) -> str:
    """What to do with the running service, in lines of at most 80 columns.

    Args:
        page: the page's address, with what signs in there.
        key: the file with the local key; None where keys are switched off.
        question: see ``to_ask``.
    """
    header = f'\n    -H "Authorization: Bearer $(cat {_short(key)})" \\' if key else ""
    in_python = f'open("{key}").read().strip()' if key else '"unused"'
    once = f"\n              (signs one browser in, once; again: `{plinth} open`)" if key else ""
    return f"""
It is running.
  chat page   {page}{once}
  API         {base_url}/v1
  dashboard   {dashboard_url}  (its token: `{plinth} env`)

Ask more
  {plinth} ask "{question}"
  curl {base_url}/v1/chat/completions \\{header}
    -H 'content-type: application/json' -d '{{"model": "auto",
    "messages": [{{"role": "user",
    "content": "{question}"}}]}}'

  from openai import OpenAI
  key = {in_python}
  client = OpenAI(base_url="{base_url}/v1", api_key=key)
  question = "{question}"
  messages = [{{"role": "user", "content": question}}]
  reply = client.chat.completions.create(model="auto", messages=messages)
  print(reply.choices[0].message.content)

Stop
  {plinth} down
"""


def _short(path: Path) -> str:
    """A path as a shell takes it, from the user's folder where it is below that."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else shlex.quote(str(path))


def _command() -> str:
    """How this shell reaches `plinth`: by name where it is on the PATH, else by its path from here."""
    program = Path(sys.argv[0]).absolute()
    if shutil.which("plinth") == str(program) or not program.name.startswith("plinth"):
        return "plinth"
    return os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program)
