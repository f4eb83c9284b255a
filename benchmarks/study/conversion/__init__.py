"""Converting a real BERT, and what that costs at every depth: the original against the ACN made of it.

    python -m benchmarks.study --budget convert-2h --source MODEL --glue_dir DIR --output runs/convert

The same protocol as the other budgets (`benchmarks/study`), with two arms: the original, fine-tuned as it is, and the
ACN that `acn pretrain --config acn-from-minilm` makes of it. Each gets its own learning rate of fine-tuning from a
grid, then the same examples, epochs and seeds on every task, and a score at every depth from one pass.
"""
