"""Traces of requests: what is read, what is refused, how a trace is compressed in time."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from cluster.cli.bench.trace import Arrival, compressed, read_trace
from cluster.core.errors import BadInputError

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0319600,110,27
2023-11-16 18:18:03.9799600,7433,0
"""
READ = [(0.0, 4808, 10), (0.052, 3180, 8), (0.052, 110, 27), (60.0, 7433, 0)]


def trace(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def read(path: Path) -> list[tuple[float, int, int]]:
    return [(round(one.at_s, 6), one.context_tokens, one.generated_tokens) for one in read_trace(path)]


def test_the_azure_columns(tmp_path: Path) -> None:
    assert read(trace(tmp_path, AZURE)) == READ
    assert read(trace(tmp_path, "\ufeff" + AZURE.rstrip("\n"))) == READ  # as spreadsheets write it


def test_other_names_orders_and_clocks(tmp_path: Path) -> None:
    assert read(trace(tmp_path, "output_tokens,Prompt Tokens,extra,arrival\n8,100,x,12.5\n9,200,y,13\n")) == [
        (0.0, 100, 8), (0.5, 200, 9)]  # fmt: skip


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    begin = datetime.datetime(2023, 11, 16, 18, 17, 3, 979960)
    times = [begin + datetime.timedelta(seconds=at) for at, _, _ in READ]
    columns = {"TIMESTAMP": times, "ContextTokens": [one[1] for one in READ], "GeneratedTokens": [r[2] for r in READ]}
    pq.write_table(pa.table(columns), tmp_path / "trace.parquet")
    assert read(tmp_path / "trace.parquet") == READ


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks timestamp, contexttokens, generatedtokens"),
        ("TIMESTAMP,GeneratedTokens\n1,2\n", "lacks contexttokens.*'TIMESTAMP', 'GeneratedTokens'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no rows"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n5,1,1\n4,1,1\n", "row 2 came 1 s before the row above"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n5,1,1\nyesterday,1,1\n", "row 2: 'yesterday' is no time"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nnan,1,1\n", "row 1: 'nan' is no time"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n5,-1,1\n", "row 1: -1 is no number of tokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n5,1,\n", "row 1: '' is no number of tokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n5,1\n", "row 1: None is no number of tokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n5,1e999,1\n", "row 1: '1e999' is no number of tokens"),
    ],
)
def test_what_is_no_trace_is_refused_with_the_row(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=said):
        list(read_trace(trace(tmp_path, text)))


def test_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is not there"):
        list(read_trace(tmp_path / "none.csv"))
    with pytest.raises(BadInputError, match="no Parquet file"):
        list(read_trace(trace(tmp_path, AZURE, "trace.parquet")))
    (tmp_path / "x.csv").write_bytes(b"TIMESTAMP,ContextTokens,GeneratedTokens\n\xff\xfe,1,1\n")
    with pytest.raises(BadInputError, match="UTF-8"):
        list(read_trace(tmp_path / "x.csv"))


def test_compression_by_hand() -> None:
    whole = [Arrival(at, 10, 1) for at in (0.0, 5.0, 10.0, 10.5, 300.0)]
    assert [one.at_s for one in compressed(whole, 10, 1.0)] == [0.0, 0.5, 1.0]
    assert [one.at_s for one in compressed(whole, 10, 60)] == [0.0, 0.5, 1.0, 1.05, 30.0]
    assert [one.at_s for one in compressed(whole, 0.5, 60, limit=2)] == [0.0, 10.0]
    assert compressed(whole, 10, 60)[0] == whole[0]


def test_no_more_of_a_trace_is_read_than_is_replayed(tmp_path: Path) -> None:
    """A trace of a month has hundreds of millions of rows; a fault behind the end is nobody's business."""
    path = trace(tmp_path, AZURE + "no time,1,1\n")
    assert len(compressed(read_trace(path), 1, 30)) == 3
    assert len(compressed(read_trace(path), 1, 600, limit=2)) == 2
    with pytest.raises(BadInputError, match="row 5"):
        compressed(read_trace(path), 1, 600)


def test_the_real_trace(data_set) -> None:
    found = compressed(read_trace(data_set("trace_azure_llm_2023") / "conv.csv"), 60, 60)
    assert len(found) == 19_366  # its 58 minutes fit into one
    assert 57 < found[-1].at_s < 60
    assert sorted(one.context_tokens for one in found)[len(found) // 2] == 1020
