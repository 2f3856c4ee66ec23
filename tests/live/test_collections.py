"""Two collections in one running service: each answers by its name, one by default, and building takes from nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.core.errors import ExitCode
from tests.live.conftest import Service, eventually, write_pages

pytestmark = pytest.mark.live

GARDEN = {
    "roses.md": "# Roses\n\nPrune the climbing roses in the last week of February, three buds above the old wood.\n",
    "compost.md": "# Compost\n\nTurn the compost heap every 21 days. Grass cuttings go in thin layers only.\n",
}
SEAL, ROSES = "How often is the impeller seal of the bilge pump replaced?", "When are the climbing roses pruned?"


@pytest.fixture
def garden(service: Service, tmp_path: Path) -> Iterator[Path]:
    """A folder that becomes collections; afterwards the service answers as before."""
    yield write_pages(tmp_path / "garden", GARDEN)
    service.plinth("index", "use", "main")
    for row in service.json("index", "list"):
        if row["live"] and row["collection"] != "main":
            service.plinth("index", "remove", row["collection"])


def plinth_of(service: Service, question: str, **more: Any) -> Any:
    reply = service.ask(question, **more)
    assert reply.status_code == 200, reply.text
    return reply.json()["plinth"]


def default_is(service: Service, name: str) -> None:
    def said() -> bool:
        reply = httpx.get(f"{service.url}/readyz", headers=service.bearer, trust_env=False)
        return bool(reply.json().get("collection") == name)

    eventually(said, what=f"the default {name}")


@pytest.mark.slow
@pytest.mark.ci
def test_another_corpus_beside_the_one_that_answers(service: Service, garden: Path) -> None:
    before = plinth_of(service, SEAL)
    assert (before["grounded"], before["collection"]) == (True, "main")

    # -- built: the default goes on as it was, the new one answers by its name
    service.plinth("data", "prepare", "--source", str(garden))
    built = service.plinth("index", "build", "--dataset", "garden")
    assert "auto@garden" in built.stdout
    assert "plinth index use garden" in built.stdout
    after = plinth_of(service, SEAL)
    assert (after["grounded"], after["index_version"]) == (True, before["index_version"])
    assert not plinth_of(service, ROSES)["grounded"]
    found = plinth_of(service, ROSES, model="auto@garden")
    assert (found["grounded"], found["collection"]) == (True, "garden")
    assert found["citations"][0]["document"] == "roses.md"
    assert not plinth_of(service, SEAL, plinth={"collection": "garden"})["grounded"]
    asked = json.loads(service.plinth("ask", ROSES, "--collection", "garden", "--json").stdout)
    assert asked["plinth"]["collection"] == "garden"
    assert "February" in asked["text"]
    assert "· garden ·" in service.plinth("ask", ROSES, "--collection", "garden").stdout
    search = service.json("index", "search", "compost heap", "--collection", "garden")
    assert search["plinth"]["collection"] == "garden"
    assert search["data"][0]["document"] == "compost.md"

    # -- listed
    cards = httpx.get(f"{service.url}/v1/collections", headers=service.bearer, trust_env=False).json()["data"]
    assert {card["id"]: (card["default"], card["documents"]) for card in cards} == {
        "garden": (False, 2), "main": (True, 6),
    }  # fmt: skip
    models = {
        card["id"]
        for card in httpx.get(f"{service.url}/v1/models", headers=service.bearer, trust_env=False).json()["data"]
    }
    assert {"auto", "auto@garden", "quote@garden", "auto@main"} <= models
    unknown = service.ask(ROSES, model="auto@nope")
    assert unknown.status_code == 404
    assert "garden, main" in unknown.json()["error"]["message"]
    wrong = service.plinth("ask", ROSES, "--collection", "nope", check=False)
    assert wrong.returncode == ExitCode.USAGE
    assert "garden, main" in wrong.stderr

    # -- used
    service.plinth("index", "use", "garden")
    default_is(service, "garden")
    assert plinth_of(service, ROSES)["collection"] == "garden"
    assert plinth_of(service, SEAL, model="auto@main")["index_version"] == before["index_version"]

    # -- removed
    refused = service.plinth("index", "remove", "garden", check=False)
    assert refused.returncode == ExitCode.BAD_INPUT
    assert "plinth index use main" in refused.stderr
    service.plinth("index", "use", "main")
    default_is(service, "main")
    service.plinth("index", "remove", "garden")
    eventually(lambda: service.ask(ROSES, model="auto@garden").status_code == 404, what="its absence")
    assert plinth_of(service, SEAL)["index_version"] == before["index_version"]


@pytest.mark.slow
@pytest.mark.ci
def test_quickstart_with_another_source_adds_a_collection_and_says_so(service: Service, garden: Path) -> None:
    herbs = write_pages(garden.parent / "herbs", {"mint.md": "# Mint\n\nMint is cut back to 4 cm in late August.\n"})
    done = service.plinth("quickstart", "--source", str(herbs), "--train-minutes", "0", *service.settings)
    assert "herbs answers by default now" in done.stdout
    assert "plinth index use main" in done.stdout
    assert plinth_of(service, "When is mint cut back?")["collection"] == "herbs"
    assert plinth_of(service, SEAL, model="auto@main")["grounded"]
    source = ("--source", str(service.folder), "--train-minutes", "0")
    again = service.json("quickstart", *source, *service.settings)
    assert (again["collection"], again["default_before"], again["index"]) == (
        "main", "herbs", service.quickstart["index"],
    )  # fmt: skip
    assert plinth_of(service, SEAL)["collection"] == "main"
