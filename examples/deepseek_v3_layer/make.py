#!/usr/bin/env python3
"""Makes one mixture-of-experts decoder layer of DeepSeek-V3 as an exported ONNX model.

    python3 make.py OUT                 full size: 11.5 G weights, of which only names, types and shapes are written
    python3 make.py OUT --tiny          toy size, with data, inputs and expected outputs

The full layer's weights are declared as external data in OUT/model.onnx.data, a file that is not written: compile it
with `--weights shapes`. The graph is spelled as torch.onnx exports the layer of transformers, operator by operator.

    --dtype f16|bf16|f32                type of weights and activations (f16; f32 with --tiny)
    --experts batched_mm|dense_bmm      gather the weights of the chosen experts, or apply all experts to all tokens
"""
import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import graph
import reference


@dataclass(frozen=True)
class Config:
    """Sizes as in DeepSeek-V3's configuration, under its names."""

    hidden_size: int = 7168
    num_attention_heads: int = 128
    q_lora_rank: int = 1536
    kv_lora_rank: int = 512
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    n_routed_experts: int = 256
    num_experts_per_tok: int = 8
    n_group: int = 8
    topk_group: int = 4
    moe_intermediate_size: int = 2048
    routed_scaling_factor: float = 2.5
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_factor: float = 40.0
    rope_original_positions: int = 4096

    @property
    def scale(self):
        """Of the scores: 1/√d, and YaRN's factor of both queries and keys."""
        yarn = 0.1 * np.log(self.rope_factor) + 1.0
        return float((self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5 * yarn * yarn)

    @property
    def frequencies(self):
        """YaRN's frequencies (Peng et al. 2023): high ones stay, low ones are divided by the factor."""
        dim = self.qk_rope_head_dim
        plain = self.rope_theta ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)

        def turns(count):
            return dim * np.log(self.rope_original_positions / (count * 2 * np.pi)) / (2 * np.log(self.rope_theta))

        low, high = max(np.floor(turns(32)), 0), min(np.ceil(turns(1)), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 1e-3), 0, 1)
        return (plain / self.rope_factor * ramp + plain * (1 - ramp)).astype(np.float32)


TINY = Config(
    hidden_size=64, num_attention_heads=4, q_lora_rank=32, kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8,
    v_head_dim=16, n_routed_experts=16, num_experts_per_tok=4, n_group=4, topk_group=2, moe_intermediate_size=32,
)
TYPES = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--dtype", choices=TYPES)
    parser.add_argument("--experts", choices=["batched_mm", "dense_bmm"], default="batched_mm")
    arguments = parser.parse_args()
    config = TINY if arguments.tiny else Config()
    dtype = arguments.dtype or ("f32" if arguments.tiny else "f16")
    model, weights = graph.layer(config, TYPES[dtype], arguments.experts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.tiny:
        data = random_weights(weights)
        model.graph.initializer.extend(initializer(weight, data[weight.name]) for weight in weights)
        write_data(arguments.out, config, dtype, data, arguments.experts)
        onnx.checker.check_model(model, full_check=True)
    else:
        model.graph.initializer.extend(external(weights))
    onnx.save(model, arguments.out / "model.onnx")
    count = sum(int(np.prod(weight.shape)) for weight in weights)
    print(f"{arguments.out / 'model.onnx'}: {len(model.graph.node)} nodes, {count / 1e9:.4f} G weights ({dtype})")


def external(weights):
    """The declarations of weights whose data nobody has written."""
    offset = 0
    for weight in weights:
        tensor = TensorProto(name=weight.name, data_type=weight.dtype, dims=weight.shape)
        tensor.data_location = TensorProto.EXTERNAL
        length = int(np.prod(weight.shape)) * np.dtype(helper.tensor_dtype_to_np_dtype(weight.dtype)).itemsize
        for key, value in [("location", "model.onnx.data"), ("offset", offset), ("length", length)]:
            tensor.external_data.add(key=key, value=str(value))
        offset += -(-length // 4096) * 4096
        yield tensor


def initializer(weight, values):
    return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(weight.dtype)), weight.name)


def random_weights(weights):
    """Values by name, as their type holds them: norms near one, the rest so that activations keep their size."""
    rng = np.random.default_rng(3)
    data = {}
    for weight in weights:
        values = rng.standard_normal(weight.shape)
        values = 1 + 0.1 * values if weight.inner is None else values / np.sqrt(weight.inner)
        data[weight.name] = values.astype(helper.tensor_dtype_to_np_dtype(weight.dtype)).astype(np.float64)
    return data


def write_data(out, config, dtype, data, experts):
    """Inputs and expected outputs: prefill, decoding, and a batch with padding on the left."""
    rng = np.random.default_rng(5)
    numpy_type = helper.tensor_dtype_to_np_dtype(TYPES[dtype])
    for number, (batch, seq, past, padding) in enumerate([(1, 5, 0, 0), (1, 1, 7, 0), (2, 4, 3, 2)]):
        mask = np.ones((batch, past + seq), np.int64)
        mask[0, :padding] = 0
        inputs = {
            "hidden_states": rng.standard_normal((batch, seq, config.hidden_size)).astype(numpy_type),
            "attention_mask": mask,
            "position_ids": np.tile(np.arange(past, past + seq), (batch, 1)).astype(np.int64),
            "past_key_values.0.key": rng.standard_normal((batch, 1, past, config.kv_lora_rank)).astype(numpy_type),
            "past_key_values.0.value": rng.standard_normal((batch, 1, past, config.qk_rope_head_dim)).astype(numpy_type),
        }
        outputs = reference.layer(config, data, experts, *inputs.values())
        folder = out / f"test_data_set_{number}"
        folder.mkdir(exist_ok=True)
        outputs = dict(zip(graph.OUTPUTS, [value.astype(numpy_type) for value in outputs]))
        for kind, values in [("input", inputs), ("output", outputs)]:
            for index, (name, value) in enumerate(values.items()):
                tensor = numpy_helper.from_array(value, name)
                (folder / f"{kind}_{index}.pb").write_bytes(tensor.SerializeToString())
    loose = {"f32": (1e-3, 1e-4), "f16": (2e-2, 2e-2), "bf16": (5e-2, 5e-2)}[dtype]
    meta = {"name": out.resolve().name, "reference": "numpy (reference.py), float64", "rtol": loose[0], "atol": loose[1], "sets": 3}
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main()
