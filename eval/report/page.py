"""The page of `acn report`: one HTML file that needs nothing else, light, dark and on paper."""

import jinja2

from ..figures import COLOURS, OTHER_COLOUR
from .tables import Table

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
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
a { color: inherit; }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; max-width: 45rem; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; }
figure.wide img { max-width: 64rem; width: auto; max-inline-size: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--band); font-weight: 600; white-space: normal; vertical-align: bottom; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
caption { caption-side: top; text-align: left; color: var(--soft); padding: .5rem 0; white-space: normal; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
th button::after { content: "\\a0\\2195"; color: var(--soft); font-size: .8em; }
th[aria-sort=ascending] button::after { content: "\\a0\\2191"; }
th[aria-sort=descending] button::after { content: "\\a0\\2193"; }
td.text, th.text { text-align: left; }
tbody tr:hover { background: var(--band); }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
.path { font-family: ui-monospace, monospace; font-size: .8rem; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  figure img { filter: invert(.92) hue-rotate(180deg); }
}
@media print {
  figure img { filter: none; max-height: 60vh; width: auto; max-width: 100%; }
  th button::after, tbody tr:hover { content: none; background: none; }
  .scroll { overflow: visible; }
  th, td { padding: .15rem .3rem; white-space: normal; }
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --line: #bbb; --band: #eee; }
  body { padding: 0; max-width: none; font-size: 11pt; }
  nav, .screen { display: none; }
  section { break-inside: avoid; }
  table { font-size: 8pt; }
}
</style>
</head>
<body>
<h1>Depth report</h1>
<p class="soft">{{ runs }} fine-tuned model{{ "" if runs == 1 else "s" }}, {{ tasks | length }}
task{{ "" if tasks | length == 1 else "s" }}{% if studies %}, {{ studies | length }}
stud{{ "y" if studies | length == 1 else "ies" }}{% endif %}.
<span class="screen">Click a column's name to sort by it.</span></p>
{% if tasks %}
<p>Depth k is the model with its first k layers only and the same classifier. The cut depth is the smallest one whose
validation score is at least the full model's score minus the tolerance. Parameters, GFLOPs (forward, for one sequence
of the stated number of tokens) and MB (float32 weights, 2<sup>20</sup> bytes) are those of the full model and of the
model cut there. Scores with ± are means and sample standard deviations over the seeds that the row names.</p>
{% endif %}
<nav>{% for task in tasks %}<a href="#{{ task.name }}">{{ task.name }}</a>{% endfor %}
{% for study in studies %}<a href="#study-{{ study.stem }}">{{ study.name }}</a>{% endfor %}</nav>
{% macro sortable(table) %}
<div class="scroll">
<table class="sortable">
<caption>{{ table.caption }}</caption>
<thead><tr>{% for column in table.columns %}<th>{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.shown() %}
<tr>{% for cell in row %}<td>{% if cell in palette %}<span class="dot" style="background:{{ palette[cell] }}"></span>
{%- endif %}{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
{% if overview %}
<section id="overview">
{% for table in overview %}{{ sortable(table) }}{% endfor %}
<p class="soft">"tolerance" and "1 s.e." are the smallest depths whose mean is within the tolerance, and within one
standard error, of the full model's mean. The standard error is that over the validation examples and that over the
seeds, their squares added. Milliseconds and sequences per second are medians of warmed-up runs on the machine that
fine-tuned; results.json says with how many threads.</p>
</section>
{% endif %}
{% for task in tasks %}
<section id="{{ task.name }}">
<h2>{{ task.name }}</h2>
<figure>
<img src="{{ task.image }}" alt="{{ task.metric }} of {{ task.name }} at every depth, one line per run">
<figcaption>Validation {{ task.metric }} at every depth; rings mark the cut depths, bands the deviation over
seeds.</figcaption>
</figure>
<div class="scroll">
<table class="sortable">
<thead><tr><th>run</th><th>connectivity</th><th>seed</th><th>full {{ task.metric }}</th><th>tolerance</th>
<th>cut depth</th><th>{{ task.metric }} at cut</th><th>parameters</th><th>GFLOPs</th><th>tokens</th><th>MB</th></tr>
</thead>
<tbody>
{% for row in task.rows %}
<tr><td>{{ row.run }}</td>
<td><span class="dot" style="background:{{ palette.get(row.connectivity, other_colour) }}"></span>
{{- row.connectivity }}</td>
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
{% for table in task.tables %}{{ sortable(table) }}{% endfor %}
<p class="soft">From {% for row in task.rows %}
<span class="path">{{ row.path }}</span>{{ ", " if not loop.last }}{% endfor %}.
{% for run in task.runs if run.results.selection %}The model in {{ run.name }}: {{ run.results.selection }}.
{% endfor %}</p>
</section>
{% endfor %}
{% for study in studies %}
<section id="study-{{ study.stem }}">
<h2 class="study">{{ study.name }}: {{ study.task }}</h2>
{% if study.image %}
<figure class="wide">
<img src="{{ study.image }}" alt="the curves of the study {{ study.name }}, one line per model">
<figcaption>A line per model, bands the deviation over seeds; dotted: what the line is compared with.</figcaption>
</figure>
{% endif %}
{% for table in study.tables %}{{ sortable(table) }}{% endfor %}
{% for notes in study.studies | map(attribute=0) | map(attribute="notes") | unique %}
<p class="soft">{{ notes }}</p>
{% endfor %}
<p class="soft">From {% for one, run in study.studies %}
<span class="path">{{ one.path }}</span> ({{ one.connectivity }}, model <span class="path">{{ one.model }}</span>,
{{ "seeds " ~ one.seeds | join(", ") if one.seeds else "nothing random" }}){{ ", " if not loop.last }}{% endfor %}.</p>
</section>
{% endfor %}
<script>
// a click on a column sorts by its first number, or as text
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, i) => {
    const text = row.cells[i].textContent.trim(), number = parseFloat(text.replaceAll(",", ""));
    return [Number.isNaN(number) ? text : number, Number.isNaN(number)];
  };
  heads.forEach((head, i) => {
    const isText = [...body.rows].some((row) => key(row, i)[1] && row.cells[i].textContent.trim() !== "–");
    for (const cell of [head, ...[...body.rows].map((row) => row.cells[i])]) cell.classList.toggle("text", isText);
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending" || (isText && !head.hasAttribute("aria-sort"));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const compare = (a, b) => {
        const [x, xText] = key(a, i), [y, yText] = key(b, i);
        if (xText !== yText) return xText ? 1 : -1;
        const order = xText ? x.localeCompare(y) : x - y;
        return up ? order : -order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
</script>
</body>
</html>
"""


def render_page(tasks: list[dict], studies: list[dict], overview: list[Table], runs: int) -> str:
    """The page as text.

    Args:
        tasks: for each: `name`, `metric`, `image` (a data URI), `rows` (that `report` makes), `runs` and `tables`.
        studies: for each: `name`, `stem`, `task`, `image` (or None), `tables` and `studies` with the runs' names.
        overview: the tables over all tasks.
        runs: how many fine-tuned models there are in all.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_TEMPLATE).render(
        tasks=tasks, studies=studies, overview=overview, runs=runs, palette=COLOURS, other_colour=OTHER_COLOUR
    )
