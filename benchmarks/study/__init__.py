"""The claim, tested: ACN against its residual twin, by a protocol that runs itself.

    python -m benchmarks.study --budget smoke --output runs/claim-smoke
    python -m benchmarks.study --budget cpu-2h --output runs/claim-cpu
    python -m benchmarks.study --budget gpu-30min --output runs/claim-gpu --tokens DIR --glue_dir DIR
    python -m benchmarks.study --budget convert-2h --output runs/convert --source MODEL --glue_dir DIR
    python -m benchmarks.study --budget rivals-3h --output runs/rivals --source MODEL --glue_dir DIR

A budget is a list of jobs in order of importance (`plan.py`): a learning rate for every arm (connectivity and
variant of its start) from a small grid, pretrainings on the same tokens in the same batches with the same seeds,
fine-tunings with several seeds and the depth sweep, and studies. Each job runs a verb of `acn` in a process of its
own; a finished job is never done again and an interrupted one goes on, so the same command continues a study that was
stopped, whether by Ctrl-C, by `--minutes` (exit code 75: jobs are left) or by a killed machine. `--plan` shows the
jobs with estimates of their time and runs nothing. Jobs that do not fit the budget's whole time are listed as not
run.

smoke        2 layers x 64 on 1 MB of documentation, every kind of job once: minutes on two cores. Its models are at
             chance and its page says so; it shows that the protocol works, nothing else.
cpu-1h       6 layers x 128 on the documentation of the installed packages (no download), 6M tokens each: one seed of
             the ACN and its residual twin, with the usual initialisation and with the identity added to attention.
cpu-2h       the same with 12 layers and 4M tokens each; the first pair of twins also on twice as many, to compare them
             at equal loss. `--precision bf16` is 1.6 times as fast on CPUs with AMX (benchmarks/NOTES.md).
             Both run two jobs of one rank side by side. Tasks are cut from the documentation; `--tasks docsource,sst2
             --glue_dir DIR` adds GLUE's, `--variants identity,plain` leaves the other arms out. In pieces:
             `--minutes 55` with the same --output until the exit code is not 75; `--total_minutes` for more seeds.
gpu-30min    12 layers x 512, sequence 128, on a prepared folder that --tokens names. For novels and documentation:
             `python -m benchmarks.study.corpus --output TEXT --mb 40` and then `acn prepare --corpus.train
             '["NOVELS/train/*.parquet", "TEXT/text/train.jsonl"]' --corpus.validation '["NOVELS/validation/*.parquet",
             "TEXT/text/validation.jsonl"]' --vocab_size 16384 --output DIR`. In pieces: `--minutes 9`.
convert-2h   a real encoder of six layers (all-MiniLM-L6-v2, or the folder that --source names) and the ACN made of it,
             both fine-tuned on six tasks of --glue_dir with three seeds (benchmarks/study/conversion).

rivals-3h    the same encoder on its ways to fewer layers: the original and the ACN made of it, also with depth
             supervision, and a student of three layers distilled for as many tokens as the conversion reads.

Everything measured is in OUTPUT/claim.json. `python -m benchmarks.study.page` writes docs/results.md and its figures
from the committed ones, benchmarks/results/claim-*.json, convert-*.json and rivals-*.json.
"""
