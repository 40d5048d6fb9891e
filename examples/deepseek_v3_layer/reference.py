"""The layer in NumPy, float64, written from its definition: nothing here knows how the graph is spelled."""
import numpy as np


def layer(config, weights, experts, x, mask, positions, past_latent, past_rope):
    """The residual stream after the layer, and both caches."""
    x, past_latent, past_rope = (np.asarray(value, np.float64) for value in (x, past_latent, past_rope))
    attended, latent, rope = attention(
        config, weights, norm(config, x, weights["input_layernorm"]), mask, positions, past_latent, past_rope
    )
    x = x + attended
    tokens = norm(config, x, weights["post_attention_layernorm"]).reshape(-1, config.hidden_size)
    mixed = mixture(config, weights, experts, tokens) + shared(weights, tokens)
    return x + mixed.reshape(x.shape), latent, rope


def norm(config, x, weight):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + config.rms_norm_eps) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def rotated(config, x, positions):
    """Pairs of neighbours turned by their position's angles; the pairs' first halves come first in the result."""
    angles = positions[..., None] * config.frequencies.astype(np.float64)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def attention(config, weights, x, mask, positions, past_latent, past_rope):
    heads, nope, rank = config.num_attention_heads, config.qk_nope_head_dim, config.kv_lora_rank
    batch, seq, _ = x.shape
    queries = norm(config, x @ weights["self_attn.q_a_proj"], weights["self_attn.q_a_layernorm"])
    queries = (queries @ weights["self_attn.q_b_proj"]).reshape(batch, seq, heads, -1)
    compressed = x @ weights["self_attn.kv_a_proj"]
    latent = norm(config, compressed[..., :rank], weights["self_attn.kv_a_layernorm"])
    latent = np.concatenate([past_latent[:, 0], latent], axis=1)
    rope = np.concatenate([past_rope[:, 0], rotated(config, compressed[..., rank:], positions)], axis=1)
    expanded = (latent @ weights["self_attn.kv_b_proj"]).reshape(batch, -1, heads, nope + config.v_head_dim)
    keys, values = expanded[..., :nope], expanded[..., nope:]
    total, past = latent.shape[1], past_latent.shape[2]
    result = np.zeros((batch, seq, heads, config.v_head_dim))
    for b in range(batch):
        for h in range(heads):
            turned = rotated(config, queries[b, :, h, nope:], positions[b])
            scores = (queries[b, :, h, :nope] @ keys[b, :, h].T + turned @ rope[b].T) * config.scale
            visible = (np.arange(total) <= np.arange(seq)[:, None] + past) & (mask[b] != 0)
            scores = np.where(visible, scores, -np.inf)
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            result[b, :, h] = scores / scores.sum(axis=-1, keepdims=True) @ values[b, :, h]
    return result.reshape(batch, seq, -1) @ weights["self_attn.o_proj"], latent[:, None], rope[:, None]


def mixture(config, weights, experts, tokens):
    """Each token's best experts of its best groups, weighted by their scores."""
    result = np.zeros_like(tokens)
    for row, token in enumerate(tokens):
        scores = 1 / (1 + np.exp(-(weights["mlp.gate"] @ token)))
        biased = scores + weights["mlp.gate.e_score_correction_bias"]
        groups = biased.reshape(config.n_group, -1)
        worth = np.sort(groups, axis=1)[:, -2:].sum(axis=1)
        kept = best(worth, config.topk_group)
        open_ = np.isin(np.arange(config.n_routed_experts) // groups.shape[1], kept)
        chosen = best(np.where(open_, biased, -np.inf), config.num_experts_per_tok)
        share = scores[chosen] / scores[chosen].sum() * config.routed_scaling_factor
        for expert, factor in zip(chosen, share):
            gate_up, down = weights["mlp.experts.gate_up_proj"][expert], weights["mlp.experts.down_proj"][expert]
            if experts == "batched_mm":
                gate_up, down = gate_up.T, down.T
            gate, up = np.split(token @ gate_up, 2)
            result[row] += factor * ((silu(gate) * up) @ down)
    return result


def best(values, count):
    """The places of the largest values, which must not be a tie with the next: a runtime could choose either."""
    order = np.argsort(-values)
    if count < len(values):
        assert values[order[count - 1]] - values[order[count]] > 1e-4, "two experts are nearly tied: use another seed"
    return order[:count]


def shared(weights, tokens):
    gate = silu(tokens @ weights["mlp.shared_experts.gate_proj"])
    return (gate * (tokens @ weights["mlp.shared_experts.up_proj"])) @ weights["mlp.shared_experts.down_proj"]
