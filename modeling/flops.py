"""What a model costs at each depth: parameters and forward FLOPs, counted analytically.

A multiply-add counts as two FLOPs and only matrix products are counted (projections and attention), which is the
convention of `torch.utils.flop_counter` and of the scaling literature. Short residuals, the read-out sum and rope's
rotations cost nothing by it.
"""

from .configuration_acn import AcnConfig
from .modeling_acn import AcnPreTrainedModel


def layer_flops(config: AcnConfig, seq_length: int) -> int:
    """Forward FLOPs of one encoder layer on one sequence of `seq_length` tokens."""
    hidden, inner = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads * config.head_width  # hidden, unless heads were removed
    matrices = 3 if config.gated_mlp else 2  # up, down, and the gate
    projections = 2 * seq_length * (4 * hidden * heads + matrices * hidden * inner)
    attention = 2 * 2 * seq_length * seq_length * heads  # scores and weighted values
    return projections + attention


def forward_flops(
    config: AcnConfig,
    seq_length: int,
    depth: int | None = None,
    num_labels: int = 0,
    masked_positions: int = 0,
) -> int:
    """Forward FLOPs of one sequence of `seq_length` tokens through the first `depth` layers (default: all) and a head.

    Args:
        num_labels: adds the pooler and a classifier with this many outputs; 0 for none.
        masked_positions: adds the masked-language-model head on this many positions.
    """
    depth = config.num_hidden_layers if depth is None else depth
    hidden = config.hidden_size
    classifier = 2 * hidden * (hidden + num_labels) if num_labels else 0
    decoder = 2 * masked_positions * hidden * (hidden + config.vocab_size)
    return depth * layer_flops(config, seq_length) + classifier + decoder


def parameters_by_depth(model: AcnPreTrainedModel) -> list[int]:
    """Parameters of the model cut at depth 0, 1, ..., L; tied weights count once."""
    layers = [sum(p.numel() for p in layer.parameters()) for layer in model.base_model.layers]
    rest = sum(p.numel() for p in model.parameters()) - sum(layers)
    return [rest + sum(layers[:depth]) for depth in range(len(layers) + 1)]
