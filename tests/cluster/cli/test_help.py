"""Help, version, completion, mistyped words: the whole command line, without a service."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli.main import build_parser, main
from cluster.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[3]


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Every parser below: its words, itself, its line in the help above it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                yield inner.prog.removeprefix("plinth "), inner, lines[name]
                yield from parsers(inner)


EVERY = {words: parser for words, parser, _ in parsers(build_parser()) if words != "help"}


@pytest.mark.parametrize("words", EVERY)
def test_every_help_works_and_fits_80_columns(words: str, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main([*words.split(), "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    verbs = any(isinstance(action, argparse._SubParsersAction) for action in EVERY[words]._actions)
    assert verbs or ("--json" in text and "--set" in text)
    assert [line for line in text.splitlines() if len(line) > 80 and len(line.split()) > 1] == []


def test_the_table_of_verbs_says_what_their_modules_say() -> None:
    """`plinth --help` reads the table and imports no verb; both must not come to differ."""
    registered = {words: line for words, _, line in parsers(build_parser()) if " " not in words and words != "help"}
    assert list(registered) == list(VERBS)
    assert registered == {name: verb.summary.replace("%", "%%") for name, verb in VERBS.items()}


def test_help_names_a_verb_and_version_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in ((["help", "models", "show"], "plinth models show"), (["help"], "quickstart"),
                        (["--version"], "plinth 0.")):  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["staus"], "did you mean status?"),
        (["help", "staus"], "did you mean status?"),
        (["models", "lst"], "did you mean list?"),
        (["xyz"], "quickstart, up, down"),
        (["--set", "cluster.http_port=1", "status"], "after the verb"),
        (["ask", "--modle", "small", "x"], "did you mean --model?"),
        (["logs", "gatway"], "did you mean gateway?"),
        (["bench", "train", "--steps", "many"], "many"),
        ([], "VERB"),
        (["status", "--preset", "labtop"], "laptop"),
    ],
)
def test_mistyped_words_are_exit_2_with_a_guess(
    words: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert main([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert said in error["message"]
    assert error["exit_code"] == 2


@pytest.mark.process
def test_a_verb_imports_only_what_it_needs(tmp_path: Path) -> None:
    """The help imports no library at all; verbs that need no model and no cluster none of the heavy ones."""
    code = """
import contextlib, io, sys
from cluster.cli.main import main
def found(names): return [n for n in names if n in sys.modules]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(["--help"])
print(found(["rich", "pydantic", "fsspec", "httpx", "asyncio", "numpy"]))
for words in ("models list", "runs list", "data report", "lineage --document x", "status", "env", "doctor", "logs",
              "gc --dry-run", "index list", "eval run --help", "ask --help"):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit): main(words.split())
    heavy = found(["ray", "torch", "pyarrow", "faiss", "transformers", "mlflow", "openvino", "sklearn", "matplotlib"])
    if heavy: print(words, heavy)
"""
    environ = {"PLINTH_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]"], done.stdout + done.stderr


@pytest.mark.process
def test_bash_completes_verbs_and_options(tmp_path: Path) -> None:
    plinth = [sys.executable, "-m", "cluster.cli.main"]
    for shell in ("bash", "zsh"):
        made = subprocess.run([*plinth, "completion", shell], cwd=ROOT, capture_output=True, text=True, check=True)
        (tmp_path / shell).write_text(made.stdout)
    assert (tmp_path / "zsh").read_text().startswith("#compdef plinth")
    asked = (("plinth mod", "models"), ("plinth models hi", "history"), ("plinth ask --mod", "--model"))
    for line, completed in asked:
        words = line.split()
        script = (
            f"source {tmp_path}/bash; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
            f"_shtab_plinth plinth {words[-1]} {words[-2]}; echo ${{COMPREPLY[@]}}"
        )
        said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
        assert completed in said.split(), (line, said)
