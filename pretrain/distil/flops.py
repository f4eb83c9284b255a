"""What a training step costs, with a teacher and without."""

from modeling import AnyConfig, forward_flops


def training_flops(
    student: AnyConfig, seq_length: int, masked_positions: int, teacher: AnyConfig | None = None, masked: bool = True
) -> int:
    """FLOPs of the forward and backward pass of one block of `seq_length` tokens, and of a teacher's forward pass.

    The backward pass costs twice the forward pass. A match needs the read-out of every token: the last layer is not
    limited to the masked positions then, and the projection is a product of H x H a token.

    Args:
        masked_positions: of a block.
        teacher: None: there is none.
        masked: whether the masked-language-model loss is computed beside the match.
    """
    if teacher is None:
        return 3 * forward_flops(student, seq_length, masked_positions=masked_positions)
    head = forward_flops(student, seq_length, depth=0, masked_positions=masked_positions) if masked else 0
    projection = 2 * seq_length * student.hidden_size**2
    return 3 * (forward_flops(student, seq_length) + head + projection) + forward_flops(teacher, seq_length)
