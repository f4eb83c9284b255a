"""The code blocks of the documentation, and what each of them needs."""

import importlib.util
import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))),
)

NEEDS = {
    "a cluster": None,
    "a server": None,
    "the Hub": None,
    "an account": None,
    "a browser": None,
    "hours": None,
    "peft": "peft",
    "onnx": "onnxruntime",
    "sentence-transformers": "sentence_transformers",
}
"""What `<!-- needs: ... -->` above a block may name, and the package that it is, if it is one.

A block whose package is there runs like any other. One that needs more than a machine has is only checked: its
syntax, and the options of every `acn` command in it.
"""

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>needs|run by): (?P<what>[^>]+?) -->\n+ *)?"
    r"```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_INDENTED = re.compile(r"^ {4,}(?:acn|make|pip|python|torchrun|mlflow|pytest|import|from) \S", re.M)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    """Of its first line of code."""
    language: str
    code: str
    needs: str | None
    run_by: str | None
    """The test that runs a fragment, which is no program by itself."""

    @property
    def runs(self) -> bool:
        """Whether it can run here, as it stands."""
        if self.run_by is not None:
            return False
        if self.needs is None:
            return True
        package = NEEDS[self.needs]
        return package is not None and importlib.util.find_spec(package) is not None

    @property
    def commands(self) -> list[list[str]]:
        """The words after `acn` of every such command in a shell block."""
        lines = re.sub(r"\$\w+", "1", self.code.replace("\\\n", " ")).splitlines()
        words = (shlex.split(line, comments=True) for line in lines if re.search(r"\bacn ", line))
        return [line[line.index("acn") + 1 :] for line in words if "acn" in line]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: str) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            line=text[: found.start("code")].count("\n") + 1,
            language=found["language"],
            code=textwrap.dedent(found["code"]),
            needs=found["what"] if found["mark"] == "needs" else None,
            run_by=found["what"] if found["mark"] == "run by" else None,
        )
        for found in _BLOCK.finditer(text)
    ]


def unfenced_commands(page: str) -> list[str]:
    """Lines that are commands or Python, indented instead of fenced, where nothing would run them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    outside = _BLOCK.sub(lambda found: "\n" * found[0].count("\n"), text)
    return [f"{page}:{outside[: found.start()].count(chr(10)) + 1}" for found in _INDENTED.finditer(outside)]
