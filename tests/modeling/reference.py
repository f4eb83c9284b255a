"""The equations of the paper in float64 numpy, written without looking at the modeling file.

x_0 = LN(word + position + type)
acn:         a = LN(W_o Attention(x_{i-1})),              x_i = LN(W_2 gelu(W_1 a)),          y_k = x_0 + ... + x_k
residual:    a = LN(x_{i-1} + W_o Attention(x_{i-1})),    x_i = LN(a + W_2 gelu(W_1 a)),      y_k = x_k
feedforward: a = LN(W_o Attention(x_{i-1})),              x_i = LN(W_2 gelu(W_1 a)),          y_k = x_k
hybrid:      a = LN(s x_{i-1} + W_o Attention(x_{i-1})),  x_i = LN(s a + W_2 gelu(W_1 a)),    y_k = x_0 + ... + x_k
reversible:  s_i = s_{i-1} + W_o Attention(LN(t_{i-1})),  t_i = t_{i-1} + W_2 gelu(W_1 LN(s_i)),
             s_0 = t_0 = y_0 = x_0, y_k = LN((s_k + t_k) / 2)

rope: no position in x_0; query and key at position t, seen as complex numbers q_d + i q_{d + D/2}, are multiplied by
exp(i t theta^{-2d/D}). gated: x_i = ... W_2 (gelu(W_g a) * W_1 a), the rows of W_g above those of W_1.
"""

import numpy as np
from scipy.special import erf, softmax


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def rotated(x: np.ndarray, theta: float) -> np.ndarray:
    """Rope on (T, D), by complex numbers."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * theta ** (-2 * np.arange(half)[None] / x.shape[-1])
    turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def attention(
    x: np.ndarray, mask: np.ndarray, w: dict[str, np.ndarray], heads: int, rope_theta: float | None = None
) -> np.ndarray:
    """One sequence at a time, one head at a time, over the unmasked keys only."""
    out = np.zeros_like(x)
    width = x.shape[-1] // heads
    projected = x @ w["attention.qkv_proj.weight"].T + w["attention.qkv_proj.bias"]
    for b in range(x.shape[0]):
        keys = mask[b].astype(bool)
        for h in range(heads):
            query, key, value = (
                projected[b][:, part * x.shape[-1] + h * width : part * x.shape[-1] + (h + 1) * width]
                for part in range(3)
            )
            if rope_theta is not None:
                query, key = rotated(query, rope_theta), rotated(key, rope_theta)
            weights = softmax(query @ key[keys].T / np.sqrt(width), axis=-1)
            out[b, :, h * width : (h + 1) * width] = weights @ value[keys]
    return out @ w["attention.out_proj.weight"].T + w["attention.out_proj.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def mlp(x: np.ndarray, w: dict[str, np.ndarray], gated: bool) -> np.ndarray:
    inner = x @ w["mlp.up_proj.weight"].T + w["mlp.up_proj.bias"]
    if gated:
        width = inner.shape[-1] // 2
        inner = gelu(inner[..., :width]) * inner[..., width:]
    else:
        inner = gelu(inner)
    return inner @ w["mlp.down_proj.weight"].T + w["mlp.down_proj.bias"]


def read_outs(
    weights: dict[str, np.ndarray],
    inputs: dict[str, np.ndarray],
    connectivity: str,
    layers: int,
    heads: int,
    eps: float,
    rope_theta: float | None = None,
    gated: bool = False,
) -> list[np.ndarray]:
    """y_0, ..., y_L of the encoder whose state dict (of AcnModel) is `weights`."""
    ids = inputs["input_ids"]
    x = (
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    )
    if rope_theta is None:
        x = x + weights["embeddings.position_embeddings.weight"][np.arange(ids.shape[1])]
    x = layer_norm(x, weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"], eps)
    outputs = [x]
    first = second = x
    for i in range(layers):
        prefix = f"layers.{i}."
        w = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
        if connectivity == "reversible":
            normed = layer_norm(second, w["attention_norm.weight"], w["attention_norm.bias"], eps)
            first = first + attention(normed, inputs["attention_mask"], w, heads, rope_theta)
            second = second + mlp(layer_norm(first, w["mlp_norm.weight"], w["mlp_norm.bias"], eps), w, gated)
            mean = first / 2 + second / 2
            outputs.append(layer_norm(mean, weights["read_out.norm.weight"], weights["read_out.norm.bias"], eps))
            continue
        shortcut = {"acn": 0.0, "feedforward": 0.0, "residual": 1.0}.get(connectivity)
        if shortcut is None:
            shortcut = w["shortcut.scale"]
        branch = attention(x, inputs["attention_mask"], w, heads, rope_theta)
        branch = shortcut * x + branch
        a = layer_norm(branch, w["attention_norm.weight"], w["attention_norm.bias"], eps)
        branch = shortcut * a + mlp(a, w, gated)
        x = layer_norm(branch, w["mlp_norm.weight"], w["mlp_norm.bias"], eps)
        outputs.append(outputs[-1] + x if connectivity in ("acn", "hybrid") else x)
    return outputs
