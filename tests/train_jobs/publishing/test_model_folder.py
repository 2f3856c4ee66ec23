"""Model folders of others: pickles, code, links and bombs are refused before anything is loaded."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import BadInputError, IntegrityError, PlinthError, PolicyRefusedError, UnsupportedError
from tests.train_jobs.publishing.model_folders import CONFIG, TENSORS, plain_folder, safetensors, with_header
from train_jobs.publishing.model_folder import MAX_TEMPLATE_CHARS, inspect, read_header


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return buffer.getvalue()


class Exploit:
    """Unpickling one writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def test_a_good_folder_is_taken_and_only_its_listed_files(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "m", pytorch__txt="notes", generation_config__json={"eos_token_id": 2})
    found = inspect(folder)
    assert set(found.files) == {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
    }  # fmt: skip
    assert found.parameters == 300 * 4 * 2 + 4
    assert found.tensors["model.norm.weight"].shape == (4,)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "x.PKL", "a.ckpt", "w.npz", "model.pkl.gz", "old/c.00.pth"]
)
def test_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = plain_folder(tmp_path / "m")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"anything")
    with pytest.raises(PolicyRefusedError, match="pickle") as refused:
        inspect(folder)
    assert refused.value.extras["file"] == name
    assert refused.value.exit_code == 4


def test_pickles_are_refused_by_content_and_never_read(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = plain_folder(tmp_path / "m", weights__dat=pickle.dumps(Exploit(marker)))
    with pytest.raises(PolicyRefusedError, match="a pickle, whatever its name"):
        inspect(folder)
    for name, content in (
        ("weights.dat", zipped()),
        ("weights.dat", b"\x1f\x8b\x08\0abc"),
        ("weights.dat", b"\x93NUMPY12"),
    ):
        (folder / name).write_bytes(content)
        with pytest.raises(PolicyRefusedError, match="whatever its name"):
            inspect(folder)
    (folder / "weights.dat").unlink()
    (folder / "model.safetensors").write_bytes(pickle.dumps(Exploit(marker), protocol=0))
    with pytest.raises(IntegrityError, match="no whole safetensors"):
        inspect(folder)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["modeling_evil.py", "code/x.so", "a.pyc"])
def test_code_is_refused(tmp_path: Path, name: str) -> None:
    folder = plain_folder(tmp_path / "m")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("raise SystemExit")
    with pytest.raises(PolicyRefusedError, match="is code"):
        inspect(folder)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}}),
        ("config.json", {"text_config": {"inner": [{"auto_map": {"AutoConfig": "x.Y"}}]}}),
        ("config.json", {"_attn_implementation_internal": "evil/kernels"}),
        ("config.json", {"attn_implementation": "evil/kernels"}),
        ("config.json", {"custom_pipelines": {"x": {}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.Y", None]}}),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}),
        ("tokenizer_config.json", {"tokenizer_file": "../../secret.json"}),
        ("generation_config.json", {"custom_generate": "evil/repo"}),
    ],
)
def test_settings_that_fetch_or_run_code_are_refused(tmp_path: Path, file: str, settings: dict[str, Any]) -> None:
    folder = plain_folder(tmp_path / "m")
    base = CONFIG if file == "config.json" else {}
    (folder / file).write_text(json.dumps({**base, **settings}))
    with pytest.raises(PolicyRefusedError):
        inspect(folder)


def test_links_stay_inside(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "blob.safetensors")
    (folder / "model.safetensors").symlink_to("blob.safetensors")
    assert inspect(folder).parameters
    (tmp_path / "secret.json").write_text("{}")
    (folder / "generation_config.json").symlink_to("../secret.json")
    with pytest.raises(PolicyRefusedError, match="leads out"):
        inspect(folder)
    (folder / "generation_config.json").unlink()
    (folder / "deep").symlink_to(tmp_path)
    with pytest.raises(PolicyRefusedError, match="leads out"):
        inspect(folder)
    (folder / "deep").unlink()
    (folder / "dangling.json").symlink_to("nowhere.json")
    with pytest.raises(BadInputError, match="cannot be read"):
        inspect(folder)


def test_special_files_do_not_hang(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "m")
    os.mkfifo(folder / "pipe.json")
    with pytest.raises(PolicyRefusedError, match="no regular file"):
        inspect(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x08\0\0", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 100) + b"{}", with_header(b"[]"),
        with_header(b"{]"), with_header(b"\xff\xfe"), with_header(b"[" * 100_000),
        with_header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 4),
        with_header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 12),
        with_header(b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', b"\0" * 8),
        with_header(b'{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8),
        with_header(b'{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,-8]}}', b"\0" * 8),
        with_header(b'{"a":{"dtype":"F32","shape":[true,2],"data_offsets":[0,8]}}', b"\0" * 8),
        with_header(b'{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', b"\0" * 8),
        with_header(b'{"a":{"dtype":"F32","shape":[99999999999,99999999999],"data_offsets":[0,8]}}', b"\0" * 8),
        with_header(b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},'
                    b'"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}', b"\0" * 12),
        with_header(b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
                    b'"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}', b"\0" * 8),
        with_header(b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}', b"\0" * 8),
        with_header(b'{"a":7}'),
    ],
)  # fmt: skip
def test_malformed_safetensors(tmp_path: Path, content: bytes) -> None:
    folder = plain_folder(tmp_path / "m", model__safetensors=content)
    with pytest.raises(IntegrityError, match="no whole safetensors"):
        inspect(folder)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = safetensors({"a": (3,), "b": (2,)})
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole)
    assert set(read_header(path)) == {"a", "b"}
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            read_header(path)


def test_a_header_larger_than_any_model_needs_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as handle:
        handle.write(struct.pack("<Q", 1 << 40))
        handle.truncate(1 << 41)  # sparse: the claim fits the file
    with pytest.raises(IntegrityError, match="header claims"):
        read_header(path)


def index(**shards: str) -> dict[str, Any]:
    return {"metadata": {}, "weight_map": {name.replace("__", "."): shard for name, shard in shards.items()}}


def sharded(tmp_path: Path, weight_map: Any) -> Path:
    folder = plain_folder(tmp_path / "m", model__safetensors=None)
    names = list(TENSORS)
    (folder / "one.safetensors").write_bytes(safetensors({names[0]: TENSORS[names[0]]}))
    (folder / "two.safetensors").write_bytes(safetensors({n: TENSORS[n] for n in names[1:]}))
    (folder / "stray.safetensors").write_bytes(safetensors({"stray": (2,)}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_sharded_weights(tmp_path: Path) -> None:
    names = list(TENSORS)
    good = {names[0]: "one.safetensors", names[1]: "two.safetensors", names[2]: "two.safetensors"}
    found = inspect(sharded(tmp_path, good))
    assert {"one.safetensors", "two.safetensors", "model.safetensors.index.json"} <= set(found.files)
    assert "stray.safetensors" not in found.files


@pytest.mark.parametrize(
    ("shard", "why"),
    [
        ("three.safetensors", "missing"), ("/etc/one.safetensors", "folder itself"), (7, "folder itself"),
        ("../one.safetensors", "folder itself"), ("one.bin", "folder itself"), ("one.safetensors", "where it is not"),
    ],
)  # fmt: skip
def test_an_index_that_lies(tmp_path: Path, shard: Any, why: str) -> None:
    names = list(TENSORS)
    weight_map = {names[0]: "one.safetensors", names[1]: "two.safetensors", names[2]: shard}
    with pytest.raises(BadInputError, match=why):
        inspect(sharded(tmp_path, weight_map))


@pytest.mark.parametrize("weight_map", [None, {}, [], "one.safetensors"])
def test_an_index_that_names_nothing(tmp_path: Path, weight_map: Any) -> None:
    with pytest.raises(BadInputError, match="names no weights"):
        inspect(sharded(tmp_path, weight_map))


@pytest.mark.parametrize(
    ("files", "error", "why"),
    [
        ({"config__json": None}, BadInputError, "config.json"),
        ({"config__json": "{"}, BadInputError, "no usable JSON"),
        ({"config__json": "[1]"}, BadInputError, "no JSON object"),
        ({"config__json": '{"a":' * 50_000}, BadInputError, "no usable JSON"),
        ({"config__json": '{"rope_theta": NaN}'}, BadInputError, "NaN"),
        ({"config__json": '{"n": ' + "9" * 6_000 + "}"}, BadInputError, "no usable JSON"),
        ({"config__json": '{"x": "' + "y" * 2_100_000 + '"}'}, BadInputError, "larger than"),
        ({"config__json": {**CONFIG, "num_hidden_layers": 10**9}}, BadInputError, "num_hidden_layers"),
        ({"config__json": {**CONFIG, "vocab_size": 2**40}}, BadInputError, "vocab_size"),
        ({"config__json": {**CONFIG, "num_local_experts": 10**7}}, BadInputError, "num_local_experts"),
        ({"config__json": {**CONFIG, "quantization_config": {"bits": 4}}}, UnsupportedError, "quantised"),
        ({"model__safetensors": safetensors({"w": (4,)}, "I8", 1)}, UnsupportedError, "quantised"),
        ({"model__safetensors": None}, BadInputError, "never pickles"),
        ({"tokenizer__json": None}, BadInputError, "tokenizer.json"),
        ({"tokenizer__json": "nonsense"}, BadInputError, "no usable JSON"),
        ({"chat_template__jinja": "x" * (MAX_TEMPLATE_CHARS + 1)}, BadInputError, "chat template"),
        ({"tokenizer_config__json": {"chat_template": "x" * 70_000}}, BadInputError, "chat template"),
        ({"tokenizer_config__json": {"chat_template": [{"name": "a", "template": "x" * 70_000}]}}, BadInputError, "ch"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_bad_folders_say_what_is_wrong(
    tmp_path: Path, files: dict[str, Any], error: type[PlinthError], why: str
) -> None:
    with pytest.raises(error, match=why) as refused:
        inspect(plain_folder(tmp_path / "m", **files))
    assert refused.value.exit_code in (3, 4)


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(BadInputError, match="no folder"):
            inspect(path)
