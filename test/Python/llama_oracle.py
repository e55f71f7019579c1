"""A Llama decoder in float64 numpy, and GGUF files of small random ones: the oracle of the converter's tests.

It follows GGUF's conventions (rotary pairs lie next to each other), not the converter's graph.
"""

import numpy as np

SIZES = dict(width=64, hidden=96, layers=2, heads=4, kv_heads=2, head=16, vocabulary=50)


def random_weights(seed, tied=True, bias=False, **sizes):
    """GGUF's tensors by name, float32."""
    s = {**SIZES, **sizes}
    rng = np.random.default_rng(seed)
    query, key = s["heads"] * s["head"], s["kv_heads"] * s["head"]
    shapes = {"attn_q": (query, s["width"]), "attn_k": (key, s["width"]), "attn_v": (key, s["width"]),
              "attn_output": (s["width"], query), "ffn_gate": (s["hidden"], s["width"]),
              "ffn_up": (s["hidden"], s["width"]), "ffn_down": (s["width"], s["hidden"])}
    draw = lambda *shape: (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
    gain = lambda: rng.uniform(0.5, 1.5, s["width"]).astype(np.float32)
    weights = {"token_embd.weight": draw(s["vocabulary"], s["width"]) * 4, "output_norm.weight": gain()}
    if not tied:
        weights["output.weight"] = draw(s["vocabulary"], s["width"])
    for layer in range(s["layers"]):
        for norm in ("attn_norm", "ffn_norm"):
            weights[f"blk.{layer}.{norm}.weight"] = gain()
        for name, shape in shapes.items():
            weights[f"blk.{layer}.{name}.weight"] = draw(*shape)
            if bias and name.startswith("attn"):
                weights[f"blk.{layer}.{name}.bias"] = draw(1, shape[0])[0]
    return weights


def write_gguf(path, weights, fields=(), types=None, **sizes):
    """Writes the weights with their metadata; `types` maps a tensor's name to a quantized type, `fields` are pairs of
    a GGUFWriter method's name and its arguments."""
    from gguf import GGUFWriter
    from gguf.quants import quantize

    s = {**SIZES, **sizes}
    writer = GGUFWriter(path, s.get("architecture", "llama"))
    writer.add_block_count(s["layers"])
    writer.add_context_length(128)
    writer.add_embedding_length(s["width"])
    writer.add_feed_forward_length(s["hidden"])
    writer.add_head_count(s["heads"])
    writer.add_head_count_kv(s["kv_heads"])
    writer.add_key_length(s["head"])
    writer.add_value_length(s["head"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(s.get("theta", 10000.0))
    for method, *arguments in fields:
        getattr(writer, method)(*arguments)
    for name, values in weights.items():
        kind = (types or {}).get(name)
        if kind is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(weights, ids, theta=10000.0, factors=None, **sizes):
    """[sequence, vocabulary] of one sequence of ids."""
    s = {**SIZES, **sizes}
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    head, group = s["head"], s["heads"] // s["kv_heads"]
    frequencies = theta ** -(np.arange(0, head, 2) / head) / (1 if factors is None else factors)
    angles = np.outer(np.arange(len(ids)), frequencies)
    turn = np.exp(1j * angles)[:, None, :]

    def norm(x, name):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-5) * w[name + ".weight"]

    def linear(x, name):
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)

    def rotate(x):
        pairs = x.reshape(*x.shape[:-1], head // 2, 2)
        turned = (pairs[..., 0] + 1j * pairs[..., 1]) * turn
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    x = w["token_embd.weight"][ids]
    for layer in range(s["layers"]):
        p = f"blk.{layer}."
        y = norm(x, p + "attn_norm")
        q = rotate(linear(y, p + "attn_q").reshape(len(ids), s["heads"], head))
        k = rotate(linear(y, p + "attn_k").reshape(len(ids), s["kv_heads"], head))
        v = linear(y, p + "attn_v").reshape(len(ids), s["kv_heads"], head)
        out = np.empty_like(q)
        for h in range(s["heads"]):
            scores = q[:, h] @ k[:, h // group].T / np.sqrt(head)
            scores[np.triu_indices(len(ids), 1)] = -np.inf
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, h] = scores / scores.sum(-1, keepdims=True) @ v[:, h // group]
        x = x + linear(out.reshape(len(ids), -1), p + "attn_output")
        y = norm(x, p + "ffn_norm")
        gate = linear(y, p + "ffn_gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(y, p + "ffn_up"), p + "ffn_down")
    return norm(x, "output_norm") @ w.get("output.weight", w["token_embd.weight"]).T
