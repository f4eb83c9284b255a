"""One file per verb of `acn`: `Args` says what it takes, `run` does it."""
