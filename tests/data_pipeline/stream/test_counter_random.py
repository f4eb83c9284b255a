import numpy as np

from data_pipeline.stream.counter_random import column_mask, hash_integers, hash_sequences, tagged_hashes


def test_sequences_are_those_of_splitmix64():
    # published test vector: https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert hash_sequences(np.array([1234567], dtype=np.uint64), 4)[0].tolist() == expected


def test_integer_hashes_tell_order_sign_and_number_of_the_parts():
    hashes = [hash_integers(*parts)[0] for parts in [(1, 2), (2, 1), (1, -2), (1, 2, 0), (1,), (0,), (0, 0)]]
    assert len(set(hashes)) == len(hashes)


def test_integer_hashes_broadcast():
    many = hash_integers(3, np.arange(5), 7)
    assert many.tolist() == [int(hash_integers(3, number, 7)[0]) for number in range(5)]


def test_tagged_hashes_carry_their_column_and_never_repeat_in_a_row():
    for width in (1, 2, 5, 128):
        rows = tagged_hashes(hash_integers(0, np.arange(50)), width)
        assert (rows & column_mask(width) == np.arange(width)).all()
        assert all(len(set(row)) == width for row in rows.tolist())
