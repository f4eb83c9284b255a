"""What a model costs at each depth: parameters and forward FLOPs, counted analytically.

A multiply-add counts as two FLOPs and only matrix products are counted (projections and attention), which is the
convention of `torch.utils.flop_counter` and of the scaling literature. Short residuals, the read-out sum and rope's
rotations cost nothing by it.
"""

from .configuration_acn import AcnConfig
from .modeling_acn import AcnPreTrainedModel


def layer_flops(config: AcnConfig, seq_length: int, positions: int | None = None) -> int:
    """Forward FLOPs of one encoder layer on one sequence of `seq_length` tokens.

    Args:
        positions: tokens whose output is wanted (default: all); the others are keys and values only.
    """
    queries = seq_length if positions is None else positions
    hidden, inner = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads * config.head_width  # hidden, unless heads were removed
    matrices = 3 if config.gated_mlp else 2  # up, down, and the gate
    key_value = 2 * seq_length * 2 * hidden * heads
    query_output_mlp = 2 * queries * (2 * hidden * heads + matrices * hidden * inner)
    attention = 2 * 2 * queries * seq_length * heads  # scores and weighted values
    return key_value + query_output_mlp + attention


def forward_flops(
    config: AcnConfig,
    seq_length: int,
    depth: int | None = None,
    num_labels: int = 0,
    masked_positions: int = 0,
) -> int:
    """Forward FLOPs of one sequence of `seq_length` tokens through the first `depth` layers (default: all) and a head.

    Args:
        num_labels: adds the pooler and a classifier with this many outputs; 0 for none. In training its last layer
            costs `layer_flops(config, seq_length, 1)` only.
        masked_positions: adds the masked-language-model head on this many positions, to which the last layer's output
            is limited then, as it is in training.
    """
    depth = config.num_hidden_layers if depth is None else depth
    hidden = config.hidden_size
    classifier = 2 * hidden * (hidden + num_labels) if num_labels else 0
    decoder = 2 * masked_positions * hidden * (hidden + config.vocab_size)
    layers = depth * layer_flops(config, seq_length)
    if masked_positions and depth:
        layers -= layer_flops(config, seq_length) - layer_flops(config, seq_length, masked_positions)
    return layers + classifier + decoder


def parameters_by_depth(model: AcnPreTrainedModel) -> list[int]:
    """Parameters of the model cut at depth 0, 1, ..., L; tied weights count once."""
    layers = [sum(p.numel() for p in layer.parameters()) for layer in model.base_model.layers]
    rest = sum(p.numel() for p in model.parameters()) - sum(layers)
    return [rest + sum(layers[:depth]) for depth in range(len(layers) + 1)]
