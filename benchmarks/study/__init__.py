"""The claim, tested: ACN against its residual twin, by a protocol that runs itself.

    python -m benchmarks.study --budget smoke --output runs/claim-smoke
    python -m benchmarks.study --budget cpu-2h --output runs/claim-cpu
    python -m benchmarks.study --budget gpu-30min --output runs/claim-gpu --tokens DIR --glue_dir DIR

A budget is a list of cells in order of importance (`plan.py`): a learning rate for every arm (connectivity and
initialisation) from a small grid, pretrainings on the same tokens in the same batches with the same seeds, fine-tunings
with several seeds and the depth sweep, and studies. Each cell runs a verb of `acn` in a process of its own; a finished
cell is never done again and an interrupted one goes on, so the same command continues a study that was stopped, whether
by Ctrl-C, by `--minutes` (exit code 75: cells are left) or by a killed machine. `--plan` shows the cells with estimates
of their time and runs nothing. Cells that do not fit the budget's whole time are listed as not run.

smoke        2 layers x 64 on 1 MB of documentation, every kind of cell once: minutes on two cores. Its models are at
             chance and its page says so; it shows that the protocol works, nothing else.
cpu-2h       12 layers x 128 on the documentation of the installed packages (no download). In pieces of 55 minutes:
             `--minutes 55` with the same --output until the exit code is not 75. Two hours pay for the first seed of
             both pairs of twins; `--total_minutes 240` adds the hybrid and the ACNs trained twice as long (equal
             loss), and each further seed takes longer still. All by estimate: `--plan` tells.
             With --glue_dir it fine-tunes on GLUE instead of the tasks cut from the documentation.
gpu-30min    12 layers x 512, sequence 128, on a prepared folder that --tokens names. For novels and documentation:
             `python -m benchmarks.study.corpus --output TEXT --mb 40` and then `acn prepare --corpus.train
             '["NOVELS/train/*.parquet", "TEXT/text/train.jsonl"]' --corpus.validation '["NOVELS/validation/*.parquet",
             "TEXT/text/validation.jsonl"]' --vocab_size 16384 --output DIR`. In pieces: `--minutes 9`.

Everything measured is in OUTPUT/claim.json. `python -m benchmarks.study.page` writes docs/results.md and its figures
from the committed ones, benchmarks/results/claim-*.json.
"""
