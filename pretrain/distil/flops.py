"""What a training step costs, with a teacher and without, of one depth or several."""

from modeling import AnyConfig, DepthSupervision, forward_flops, layer_flops


def training_flops(
    student: AnyConfig,
    seq_length: int,
    masked_positions: int,
    teacher: AnyConfig | None = None,
    masked: bool = True,
    supervision: DepthSupervision | None = None,
) -> int:
    """FLOPs of the forward and backward pass of one block of `seq_length` tokens, and of a teacher's forward pass.

    The backward pass costs twice the forward pass. A match needs the read-out of every token: the last layer is not
    limited to the masked positions then, and the projection is a product of H x H a token. Neither is it with depth
    supervision, where head and projection are computed once for each depth of a step; of layers that are left out at
    random the mean number is counted.

    Args:
        masked_positions: of a block.
        teacher: None: there is none.
        masked: whether the masked-language-model loss is computed beside the match.
        supervision: None: the whole model alone is trained.
    """
    supervision = supervision or DepthSupervision()
    if teacher is None and supervision.kind == "none":
        return 3 * forward_flops(student, seq_length, masked_positions=masked_positions)
    head = forward_flops(student, seq_length, depth=0, masked_positions=masked_positions) if masked else 0
    projection = 0 if teacher is None else 2 * seq_length * student.hidden_size**2
    layers = student.num_hidden_layers
    encoder = supervision.layers_per_step(layers) * layer_flops(student, seq_length)
    taught = 3 * (encoder + supervision.depths_per_step(layers) * (head + projection))
    return round(taught) + (0 if teacher is None else forward_flops(teacher, seq_length))
