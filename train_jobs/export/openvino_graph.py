"""Hugging Face decoder checkpoints as OpenVINO IR for GenAI's continuous batching, without an exporter package.

The graph is written with opset15 from the safetensors. Its shape is what GenAI's paged-attention pass looks for: inputs
``input_ids``, ``attention_mask``, ``position_ids`` (int64 [batch, tokens]) and ``beam_idx`` (int32 [batch]), and per
layer a key and a value state that is read, gathered by ``beam_idx``, concatenated and assigned.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.core.storage import storage_errors
from train_jobs.export.agreement import Agreement, compare
from train_jobs.export.decoder import Decoder, read_decoder, read_tensors

if TYPE_CHECKING:
    import numpy as np

MODEL_FILE = "openvino_model.xml"
COPIED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
          "chat_template.jinja")  # fmt: skip


def export(hf_folder: Path, out: Path, int8: bool = False) -> None:
    """Write ``openvino_model.xml`` and ``.bin`` (float32, or the matrices in 8 bits) with config and tokenizer files to
    ``out``.

    Raises:
        UnsupportedError: an architecture or setting the graph does not compute; the message names it.
        BadInputError, IntegrityError: the checkpoint is incomplete or damaged.
        EnvironmentFaultError: the disk is full.
    """
    decoder = read_decoder(hf_folder)
    tensors = read_tensors(hf_folder, decoder)

    import openvino

    model = Graph(decoder, tensors, int8).model()
    with storage_errors(str(out)):
        out.mkdir(parents=True, exist_ok=True)
        openvino.save_model(model, out / MODEL_FILE, compress_to_fp16=False)
        for name in COPIED:
            if (hf_folder / name).exists():
                shutil.copyfile(hf_folder / name, out / name)


def verify(
    hf_folder: Path, out: Path, prompts: Sequence[Sequence[int]] | None = None, new_tokens: int = 64
) -> Agreement:
    """Compare greedy tokens of the converted model with transformers, in float32 (see ``agreement.compare``).

    Args:
        prompts: token ids; None takes eight seeded random prompts, 512 tokens in all with the default ``new_tokens``.
    """
    return compare(hf_folder, out, prompts, new_tokens)


class Graph:
    """One decoder as an OpenVINO graph. B sequences, S new tokens, T tokens with the cached ones.

    With ``int8`` a matrix is kept as whole numbers of 8 bits and one float32 scale a row; the arithmetic stays that of
    floats.
    """

    def __init__(self, decoder: Decoder, tensors: dict[str, np.ndarray], int8: bool = False) -> None:
        import numpy
        from openvino import opset15

        self.np, self.ops, self.d, self.tensors, self.int8 = numpy, opset15, decoder, tensors, int8
        self.sinks: list[Any] = []
        self.variables: list[Any] = []

    def model(self) -> Any:
        """The decoder as an ``openvino.Model`` with the module's inputs and float32 ``logits`` [B, S, vocab].

        To be called once: a second call would add the layers' states again.
        """
        import openvino

        ops, np, d = self.ops, self.np, self.d
        ids, mask, positions = (
            self._input(name, [-1, -1], np.int64) for name in ("input_ids", "attention_mask", "position_ids")
        )
        self.beams = self._input("beam_idx", [-1], np.int32)
        self.batch = ops.gather(ops.shape_of(ids), self._int([0]), self._int(0))  # [1]: B
        table, scale = self._stored("embed_tokens.weight")
        hidden = ops.gather(table, ops.convert(ids, np.int32), self._int(0))
        if scale is not None:
            scales = ops.gather(scale, ops.convert(ids, np.int32), self._int(0))
            hidden = ops.multiply(ops.convert(hidden, np.float32), scales)
        allowed = self._allowed(ids, mask)
        cos, sin = self._rotation(positions)
        for layer in range(d.layers):
            normed = self._norm(hidden, f"layers.{layer}.input_layernorm")
            hidden = ops.add(hidden, self._attention(normed, layer, allowed, cos, sin))
            normed = self._norm(hidden, f"layers.{layer}.post_attention_layernorm")
            hidden = ops.add(hidden, self._mlp(normed, layer))
        hidden = self._norm(hidden, "norm")
        head = self._whole(table, scale) if d.tied else self._whole(*self._stored("lm_head.weight"))
        logits = ops.matmul(hidden, head, False, True)
        logits.output(0).get_tensor().set_names({"logits"})
        result = ops.result(logits)
        result.set_friendly_name("logits")
        inputs = [ids, mask, positions, self.beams]
        return openvino.Model([result], self.sinks, inputs, self.variables, d.architecture)

    # -- parts ------------------------------------------------------------------------------------------------------
    def _allowed(self, ids: Any, mask: Any) -> Any:
        """Boolean [B, 1, S, T]: which cached or new token each new token may look at."""
        ops, np = self.ops, self.np
        new = ops.gather(ops.shape_of(ids), self._int(1), self._int(0))
        every = ops.gather(ops.shape_of(mask), self._int(1), self._int(0))
        at = ops.range(ops.subtract(every, new), every, self._int(1), output_type="i64")
        seen = ops.range(self._int(0), every, self._int(1), output_type="i64")
        causal = ops.less_equal(ops.unsqueeze(seen, self._int(0)), ops.unsqueeze(at, self._int(1)))  # [S, T]
        present = ops.unsqueeze(ops.convert(mask, np.bool_), self._int([1, 2]))  # [B, 1, 1, T]
        return ops.logical_and(causal, present)

    def _rotation(self, positions: Any) -> tuple[Any, Any]:
        """cos and sin of the rotary angles, [B, 1, S, head_dim]."""
        ops, np = self.ops, self.np
        frequencies = ops.constant(self.d.inverse_frequencies().reshape(1, 1, -1))
        angles = ops.multiply(ops.unsqueeze(ops.convert(positions, np.float32), self._int(2)), frequencies)
        angles = ops.unsqueeze(ops.concat([angles, angles], -1), self._int(1))
        return ops.cos(angles), ops.sin(angles)

    def _attention(self, hidden: Any, layer: int, allowed: Any, cos: Any, sin: Any) -> Any:
        ops, d, prefix = self.ops, self.d, f"layers.{layer}.self_attn"
        query = self._heads(self._product(hidden, f"{prefix}.q_proj"), d.heads)
        key = self._heads(self._product(hidden, f"{prefix}.k_proj"), d.kv_heads)
        value = self._heads(self._product(hidden, f"{prefix}.v_proj"), d.kv_heads)
        if d.query_key_norms:
            query, key = self._norm(query, f"{prefix}.q_norm"), self._norm(key, f"{prefix}.k_norm")
        order = self._int([0, 2, 1, 3])  # [B, S, heads, D] -> [B, heads, S, D]
        query, key, value = (ops.transpose(part, order) for part in (query, key, value))
        key = self._cached(self._rotated(key, cos, sin), f"past_key_values.{layer}.keypresent.{layer}.key")
        value = self._cached(value, f"past_key_values.{layer}.valuepresent.{layer}.value")
        mixed = ops.scaled_dot_product_attention(
            self._rotated(query, cos, sin), self._repeated(key), self._repeated(value), allowed
        )
        joined = ops.reshape(ops.transpose(mixed, order), self._int([0, 0, d.heads * d.head_dim]), True)
        return self._product(joined, f"{prefix}.o_proj")

    def _mlp(self, hidden: Any, layer: int) -> Any:
        ops, prefix = self.ops, f"layers.{layer}.mlp"
        gate = ops.swish(self._product(hidden, f"{prefix}.gate_proj"))
        return self._product(ops.multiply(gate, self._product(hidden, f"{prefix}.up_proj")), f"{prefix}.down_proj")

    def _cached(self, new: Any, name: str) -> Any:
        """Append to the state ``name``: [B, kv_heads, T, head_dim]."""
        import openvino
        from openvino.op.util import Variable, VariableInfo

        ops, np, d = self.ops, self.np, self.d
        info = VariableInfo()
        info.data_shape = openvino.PartialShape([-1, d.kv_heads, -1, d.head_dim])
        info.data_type, info.variable_id = openvino.Type.f32, name
        variable = Variable(info)
        empty = ops.concat([self.batch, self._int([d.kv_heads, 0, d.head_dim])], 0)
        start = ops.broadcast(ops.constant(np.float32(0)), empty)
        past = ops.gather(ops.read_value(start, variable), self.beams, self._int(0))
        joined = ops.concat([past, new], -2)
        self.sinks.append(ops.assign(joined, variable))
        self.variables.append(variable)
        return joined

    def _repeated(self, part: Any) -> Any:
        """[B, kv_heads, T, D] -> [B, heads, T, D]: every key head serves heads / kv_heads query heads."""
        ops, d = self.ops, self.d
        if d.heads == d.kv_heads:
            return part
        groups = d.heads // d.kv_heads
        wide = ops.broadcast(
            ops.unsqueeze(part, self._int(2)), self._int([1, 1, groups, 1, 1]), broadcast_spec="BIDIRECTIONAL"
        )
        return ops.reshape(wide, self._int([0, d.heads, -1, d.head_dim]), True)

    def _rotated(self, part: Any, cos: Any, sin: Any) -> Any:
        ops, half = self.ops, self.d.head_dim // 2
        end, one, axis = self._int([1 << 60]), self._int([1]), self._int([3])
        first = ops.slice(part, self._int([0]), self._int([half]), one, axis)
        second = ops.slice(part, self._int([half]), end, one, axis)
        turned = ops.concat([ops.multiply(second, self._float(-1.0)), first], -1)
        return ops.add(ops.multiply(part, cos), ops.multiply(turned, sin))

    def _norm(self, hidden: Any, name: str) -> Any:
        """RMS norm over the last axis, in the order of operations of transformers."""
        ops = self.ops
        square = ops.reduce_mean(ops.power(hidden, self._float(2.0)), self._int([-1]), True)
        root = ops.sqrt(ops.add(square, self._float(self.d.rms_eps)))
        scaled = ops.multiply(hidden, ops.divide(self._float(1.0), root))
        return ops.multiply(ops.constant(self.tensors[f"{name}.weight"]), scaled)

    def _product(self, hidden: Any, name: str) -> Any:
        out = self.ops.matmul(hidden, self._whole(*self._stored(f"{name}.weight")), False, True)
        bias = self.tensors.get(f"{name}.bias")
        return out if bias is None else self.ops.add(out, self.ops.constant(bias))

    def _stored(self, name: str) -> tuple[Any, Any]:
        """A matrix as a constant, and its scales [rows, 1] where it is kept in 8 bits."""
        np, weight = self.np, self.tensors[name]
        if not self.int8:
            return self.ops.constant(weight), None
        scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
        return self.ops.constant(np.rint(weight / scale).astype(np.int8)), self.ops.constant(scale.astype(np.float32))

    def _whole(self, table: Any, scale: Any) -> Any:
        return table if scale is None else self.ops.multiply(self.ops.convert(table, self.np.float32), scale)

    def _heads(self, flat: Any, heads: int) -> Any:
        return self.ops.reshape(flat, self._int([0, 0, heads, self.d.head_dim]), True)

    def _input(self, name: str, shape: list[int], kind: Any) -> Any:
        node = self.ops.parameter(shape, kind)
        node.set_friendly_name(name)
        node.output(0).get_tensor().set_names({name})
        return node

    def _int(self, value: Any) -> Any:
        return self.ops.constant(self.np.array(value, dtype=self.np.int64))

    def _float(self, value: float) -> Any:
        return self.ops.constant(self.np.float32(value))
