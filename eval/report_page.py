"""The page of `acn report`: one HTML file that needs nothing else, light, dark and on paper."""

import jinja2

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Depth report</title>
<style>
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5d6470; --paper: #fff; --line: #d9dde3; --band: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a2a9b4; --paper: #16181c; --line: #363b43; --band: #1f2329; }
}
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
nav a { margin-right: 1rem; }
a { color: inherit; }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; max-width: 45rem; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--band); font-weight: 600; white-space: normal; vertical-align: bottom; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
.path { font-family: ui-monospace, monospace; font-size: .8rem; overflow-wrap: anywhere; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --line: #bbb; --band: #eee; }
  body { padding: 0; max-width: none; font-size: 11pt; }
  nav { display: none; }
  section { break-inside: avoid; }
  table { font-size: 8pt; }
}
</style>
</head>
<body>
<h1>Depth report</h1>
<p class="soft">{{ runs }} fine-tuned model{{ "" if runs == 1 else "s" }}, {{ tasks | length }}
task{{ "" if tasks | length == 1 else "s" }}.</p>
<p>Depth k is the model with its first k layers only and the same classifier. The cut depth is the smallest one whose
validation score is at least the full model's score minus the tolerance. Parameters, GFLOPs (forward, for one sequence
of the stated number of tokens) and MB (float32 weights, 2<sup>20</sup> bytes) are those of the full model and of the
model cut there.</p>
<nav>{% for task in tasks %}<a href="#{{ task.name }}">{{ task.name }}</a>{% endfor %}</nav>
{% for task in tasks %}
<section id="{{ task.name }}">
<h2>{{ task.name }}</h2>
<figure>
<img src="{{ task.image }}" alt="{{ task.metric }} of {{ task.name }} at every depth, one line per run">
<figcaption>Validation {{ task.metric }} at every depth; rings mark the cut depths.</figcaption>
</figure>
<div class="scroll">
<table>
<thead><tr><th>run</th><th>connectivity</th><th>seed</th><th>full {{ task.metric }}</th><th>tolerance</th>
<th>cut depth</th><th>{{ task.metric }} at cut</th><th>parameters</th><th>GFLOPs</th><th>tokens</th><th>MB</th></tr>
</thead>
<tbody>
{% for row in task.rows %}
<tr><td>{{ row.run }}</td>
<td><span class="dot" style="background:{{ row.colour }}"></span>{{ row.connectivity }}</td>
<td>{{ row.seed }}</td><td>{{ "%.4f" | format(row.full_score) }}</td><td>{{ row.tolerance }}</td>
<td>{{ row.cut_depth }} of {{ row.layers }}</td><td>{{ "%.4f" | format(row.cut_score) }}</td>
<td>{{ "%.2f" | format(row.full_params / 1e6) }}M → {{ "%.2f" | format(row.cut_params / 1e6) }}M</td>
<td>{{ "%.3f" | format(row.full_gflops) }} → {{ "%.3f" | format(row.cut_gflops) }}</td>
<td>{{ row.seq_length if row.seq_length else "not stated" }}</td>
<td>{{ "%.1f" | format(row.full_mb) }} → {{ "%.1f" | format(row.cut_mb) }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="soft">From {% for row in task.rows %}
<span class="path">{{ row.path }}</span>{{ ", " if not loop.last }}{% endfor %}.</p>
</section>
{% endfor %}
</body>
</html>
"""


def render_page(tasks: list[dict], runs: int) -> str:
    """The page as text.

    Args:
        tasks: for each: `name`, `metric`, `image` (a data URI) and `rows`, the table rows that `report` makes.
        runs: how many fine-tuned models there are in all.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_TEMPLATE).render(tasks=tasks, runs=runs)
