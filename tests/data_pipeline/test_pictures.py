"""Pictures: names are text, the same figure gives the same bytes, and no failure ends anything."""

import logging
import tempfile
from pathlib import Path

import matplotlib.image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from data_pipeline import as_label, save_picture

NAMES = [
    "$", "a$b$c", "cost $5 and $6", r"\$x\$", r"$\frac{1}{0}$", r"$\nosuch$", "$_^$", "100 %", "a_b^c{d}", "[bold]",
    "%s", "_hidden", "täsk 任务", "a\nb", "\udcff", "",
]  # fmt: skip


def draw(name: str, seen: list[str] | None = None):
    """A figure with `name` wherever a name can stand."""

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([1, 10, 1e6], [1, 2, 3], label=as_label(name))
        axes.set(xscale="log", title=name, xlabel=name, ylabel=name)
        axes.legend()
        figure.suptitle(name)
        if seen is not None:
            figure.canvas.draw()
            legend = axes.get_legend()
            assert legend is not None
            seen.extend(text.get_text() for text in legend.get_texts())
            assert not any(text.get_parse_math() for text in figure.findobj(Text))

    return fill


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_name_is_drawn_as_it_is_written(tmp_path, caplog, name, kind):
    seen: list[str] = []
    drawn = save_picture(tmp_path / f"a.{kind}", draw(name, seen))
    if name == "\udcff":  # no font has it
        assert not drawn
        return
    assert drawn, caplog.text
    assert [label.strip() for label in seen] == ([name] if name else [])


@settings(max_examples=8)  # a figure takes a tenth of a second
@given(st.text(alphabet=st.sampled_from("$\\{}^_%#&<>'\"[]\n\0ä\udcffx "), max_size=8))
def test_no_name_raises(name):
    with tempfile.TemporaryDirectory() as folder:
        save_picture(Path(folder) / "a.svg", draw(name))


def test_the_settings_of_the_user_make_no_formula_of_a_name(tmp_path, monkeypatch):
    for setting in ("text.parse_math", "text.usetex"):
        monkeypatch.setitem(matplotlib.rcParams, setting, True)
    assert save_picture(tmp_path / "a.png", draw("$x$"))


@pytest.mark.parametrize(("span", "labels"), [((1e-3, 10), {"0.01", "0.1", "1"}), ((2, 5), {"2", "3", "4"})])
def test_logarithmic_axes_have_plain_numbers(tmp_path, span, labels):
    seen: set[str] = set()

    def fill(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([1, 2], span)
        axes.set_yscale("log")
        figure.canvas.mpl_connect(
            "draw_event", lambda _: seen.update(text.get_text() for text in axes.get_yticklabels(which="both"))
        )

    assert save_picture(tmp_path / "a.png", fill)
    assert labels <= seen
    assert "$" not in "".join(seen)


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for kind in ("png", "svg"):
        pictures = [tmp_path / f"{number}" / f"a.{kind}" for number in (1, 2)]
        assert all(save_picture(path, draw("x")) for path in pictures)
        assert pictures[0].read_bytes() == pictures[1].read_bytes()


def _broken(_: Figure) -> None:
    raise ZeroDivisionError("in the drawing")


@pytest.mark.parametrize(
    ("path", "fill"),
    [
        ("a.png", _broken),
        ("file/a.png", draw("x")),
        (f"{'x' * 300}.png", draw("x")),
        ("a.bmp", draw("x")),
        ("a.png", lambda figure: figure.add_subplot().set_title(None, fontsize="no size")),
    ],
)
def test_a_failure_is_one_warning(tmp_path, caplog, path, fill):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        assert not save_picture(tmp_path / path, fill)
        assert not save_picture(tmp_path / path, fill)
    assert len([record for record in caplog.records if "no picture" in record.message]) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["file"], "nothing is left aside"


@pytest.mark.parametrize("width", [3.8, 7.2])
def test_a_long_name_is_broken_into_lines_and_nothing_touches_the_edge(tmp_path, width):
    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([1, 2], [1, 2], label="suite/of-a-run/" * 6 + " (acn), mean of 3 seeds: 0.123, cut at 3 of 12: 0.122")
        axes.set(
            title="the title of this panel " * 4, xlabel="share of all that was measured " * 4, ylabel="words " * 20
        )
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
        figure.suptitle("NAME_OF_A_TASK_WITHOUT_A_SPACE" * 4)

    assert save_picture(tmp_path / "a.png", fill, (width, 6.0))
    pixels = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 1).all()
