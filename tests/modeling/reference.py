"""The equations of the paper in float64 numpy, written without looking at the modeling file.

x_0 = LN(word + position + type)
acn:       a = LN(W_o Attention(x_{i-1})),            x_i = LN(W_2 gelu(W_1 a)),        y_k = x_0 + ... + x_k
residual:  a = LN(x_{i-1} + W_o Attention(x_{i-1})),  x_i = LN(a + W_2 gelu(W_1 a)),    y_k = x_k
"""

import numpy as np
from scipy.special import erf, softmax


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def attention(x: np.ndarray, mask: np.ndarray, w: dict[str, np.ndarray], heads: int) -> np.ndarray:
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
            weights = softmax(query @ key[keys].T / np.sqrt(width), axis=-1)
            out[b, :, h * width : (h + 1) * width] = weights @ value[keys]
    return out @ w["attention.out_proj.weight"].T + w["attention.out_proj.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def read_outs(
    weights: dict[str, np.ndarray],
    inputs: dict[str, np.ndarray],
    connectivity: str,
    layers: int,
    heads: int,
    eps: float,
) -> list[np.ndarray]:
    """y_0, ..., y_L of the encoder whose state dict (of AcnModel) is `weights`."""
    ids = inputs["input_ids"]
    x = (
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][np.arange(ids.shape[1])]
        + weights["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    )
    x = layer_norm(x, weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"], eps)
    outputs = [x]
    for i in range(layers):
        prefix = f"layers.{i}."
        w = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
        branch = attention(x, inputs["attention_mask"], w, heads)
        if connectivity == "residual":
            branch = x + branch
        a = layer_norm(branch, w["attention_norm.weight"], w["attention_norm.bias"], eps)
        inner = gelu(a @ w["mlp.up_proj.weight"].T + w["mlp.up_proj.bias"])
        branch = inner @ w["mlp.down_proj.weight"].T + w["mlp.down_proj.bias"]
        if connectivity == "residual":
            branch = a + branch
        x = layer_norm(branch, w["mlp_norm.weight"], w["mlp_norm.bias"], eps)
        outputs.append(outputs[-1] + x if connectivity == "acn" else x)
    return outputs
