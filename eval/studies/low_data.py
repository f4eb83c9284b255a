"""Low data: the score of fine-tuning on 32..N examples."""

import torch

from ..progress import Progress
from .base import Context, Curve, Kind, Point, Study, draw_samples
from .config import LowDataOptions, numbers
from .training import fit


def run(context: Context, options: LowDataOptions) -> Study:
    """The score of each task against the number of training examples."""
    seeds, limit = context.options.seed_list, context.options.max_train_samples
    sizes_by_task = {}
    for data in context.data:
        most = min(len(data.train), limit or len(data.train))
        sizes_by_task[data.task.name] = [
            *sorted(size for size in set(numbers(options.sizes, int)) if size < most),
            most,
        ]
    progress = Progress("low_data", sum(map(len, sizes_by_task.values())) * len(seeds))
    curves, rows = [], []
    for data in context.data:
        task, points = data.task, []
        validation = context.encode(task, data.validation)
        for size in sizes_by_task[task.name]:
            scores = []
            for seed in seeds:
                torch.manual_seed(seed)  # of the new head
                model = context.load_for_task(task)
                subset = context.encode(task, draw_samples(task, data.train, size, seed))
                fit(
                    context,
                    model,
                    subset,
                    seed,
                    f"low_data/{task.name}/{size}/seed_{seed}",
                    min_steps=options.min_steps,
                )
                scores.append(context.score(model, task, validation))
                progress.step(f"{task.name}, {size} examples")
            points.append(Point(size, scores))
            summary = points[-1].as_json()
            rows.append([task.name, size, summary["mean"], summary["std"]])
        curves.append(Curve(f"{task.name} ({task.metric})", "training examples", "score", points))
    return Study(
        curves,
        ["task", "training examples", "score", "deviation"],
        rows,
        "Each trial is a fine-tuning of the pretrained model on its own stratified subset, at least "
        f"{options.min_steps} steps, scored at full depth; mean and sample deviation over the seeds, which draw the "
        "subset, the new head and the order.",
        seeds,
    )


KIND = Kind(run, "pretrained")
