"""Tables are read back as they were written, and without what short verbs need not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from data_jobs.corpus.parquet import read_table, table_bytes

TABLE = pa.table({"id": ["a", "b"], "text": ["x", None], "span": [[1, 2], []]})
READ = """
import sys
from pathlib import Path
from data_jobs.corpus.parquet import read_table
print(read_table(Path(sys.argv[1])).num_rows, "pandas" in sys.modules)
"""


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "year=2026.parquet"
    path.write_bytes(table_bytes(TABLE))
    assert read_table(path).equals(read_table(path.read_bytes()))
    assert read_table(path).to_pydict() == TABLE.to_pydict()
    assert read_table(path, ["span", "id"]).column_names == ["span", "id"]


def test_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(pa.ArrowInvalid, match="nothing"):
        read_table(table_bytes(TABLE), ["id", "nothing"])


def test_reading_imports_no_pandas(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(table_bytes(TABLE))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "t.parquet")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False"]
