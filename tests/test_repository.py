"""What surrounds the code: packaging, CI, hooks, citation, changelog and templates agree with each other."""

import os
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_rooms import FLOOR

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
URL = PROJECT["urls"]["Homepage"]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def read_yaml(name: str | Path) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def releases() -> list[tuple[str, str]]:
    """(version, date) of every release in the changelog, newest first."""
    return re.findall(r"^## \[([\d.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_the_workflow_runs_ci_on_every_supported_python():
    workflow = read_yaml(".github/workflows/ci.yml")
    assert {"push", "pull_request"} <= workflow[True].keys()  # `on` is YAML 1.1 for true
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["runs-on"].startswith("ubuntu")
    assert 0 < job["timeout-minutes"] <= 360
    pythons = job["strategy"]["matrix"]["python-version"]
    prefix = "Programming Language :: Python :: "
    assert pythons == [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(f"{prefix}3.")]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    *_, setup, run = job["steps"]
    assert setup["uses"].startswith("actions/setup-python@")
    assert setup["with"]["python-version"] == "${{ matrix.python-version }}"
    assert setup["with"]["cache"] == "pip"
    assert all((ROOT / name).is_file() for name in setup["with"]["cache-dependency-path"].split())
    assert run == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_the_hooks_run_what_make_lint_runs_in_the_same_environment():
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    tools = {line.strip().removeprefix("$(BIN)/") for line in recipe.splitlines()}
    assert tools == {"ruff check .", "ruff format --check .", "mypy"}
    entries = {hook["id"]: hook["entry"] for hook in repository["hooks"]}
    assert entries == {
        "ruff-check": ".venv/bin/ruff check --force-exclude",
        "ruff-format": ".venv/bin/ruff format --force-exclude",
        "mypy": ".venv/bin/mypy",
    }
    assert any(requirement.startswith("pre-commit") for requirement in PROJECT["optional-dependencies"]["dev"])


def test_the_citation_has_what_the_format_requires_and_agrees_with_the_package():
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == PROJECT["name"]
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == URL
    assert citation["authors"] == PROJECT["authors"]


def test_the_citation_names_the_paper_that_the_model_follows():
    (paper,) = read_yaml("CITATION.cff")["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert paper["url"] == PROJECT["urls"]["Paper"]
    assert paper["url"] in (ROOT / "README.md").read_text()
    arxiv = paper["url"].rpartition("/")[2]
    assert paper["identifiers"][0]["value"] == f"10.48550/arXiv.{arxiv}"
    assert all({"family-names", "given-names"} <= author.keys() for author in paper["authors"])


def test_the_changelog_ends_in_the_version_of_the_package():
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\]", text, re.M)
    assert headings[0] == "Unreleased"
    assert headings[1:] == [version for version, _ in releases()]
    assert releases()[0] == (PROJECT["version"], read_yaml("CITATION.cff")["date-released"])
    dates = [date.fromisoformat(day) for _, day in releases()]
    assert dates == sorted(dates, reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}  # of Keep a Changelog
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds
    for heading in headings:
        assert re.search(rf"^\[{re.escape(heading)}\]: {URL}/", text, re.M), heading


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_requires(path):
    form = read_yaml(path)
    assert form["name"]
    assert form["description"]
    assert all(element["type"] in {"textarea", "input", "dropdown", "checkboxes"} for element in form["body"])
    assert all(element["attributes"]["label"] for element in form["body"])
    ids = [element["id"] for element in form["body"]]
    assert len(set(ids)) == len(ids)
    assert any(element.get("validations", {}).get("required") for element in form["body"])


def test_there_are_forms_for_bugs_and_features_and_vulnerabilities_go_elsewhere():
    assert [path.stem for path in FORMS] == ["bug_report", "feature_request"]
    (link,) = read_yaml(".github/ISSUE_TEMPLATE/config.yml")["contact_links"]
    assert {"name", "url", "about"} <= link.keys()
    assert link["url"] in (ROOT / "SECURITY.md").read_text()


def test_every_address_of_the_project_is_the_one_in_pyproject():
    files = [path for name in ("*.md", "*.cff", ".github/**/*.yml", ".github/**/*.md") for path in ROOT.glob(name)]
    owner = URL.rpartition("/")[0]
    for path in files:
        for found in re.findall(rf"{owner}\S*", path.read_text()):
            assert found.startswith(URL), path
    assert all(url.startswith(URL) for name, url in PROJECT["urls"].items() if name != "Paper")


@pytest.mark.parametrize("room", FLOOR)
def test_type_checkers_see_the_annotations_of_an_installed_package(room):
    assert (ROOT / room / "py.typed").is_file()
    assert "py.typed" in PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    assert "Typing :: Typed" in PROJECT["classifiers"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_the_documentation_leads_to_every_example(path):
    assert "(examples)" in (ROOT / "README.md").read_text()
    assert any(f"(../examples/{path.name})" in page.read_text() for page in (ROOT / "docs").glob("*.md"))


def anchors(page: Path) -> set[str]:
    """What a link may name on a page: its headings, as GitHub makes anchors of them, and those that it sets itself."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings} | set(
        re.findall(r'<a id="([^"]+)">', text)
    )


def test_links_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md")]
    links = [(page, *link) for page in pages for link in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)", page.read_text())]
    inside = [(page, page.parent / name if name else page, anchor) for page, name, anchor in links if "://" not in name]
    assert [(page.name, target.name) for page, target, _ in inside if not target.exists()] == []
    to_places = [(page, target, anchor) for page, target, anchor in inside if anchor and target.suffix == ".md"]
    assert [(page.name, anchor) for page, target, anchor in to_places if anchor not in anchors(target)] == []


def test_every_file_that_a_page_speaks_of_is_there():
    """But for those of a recipe's reader, NAME.py."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    rooms = (
        r"(?<![\w/.-])((?:tests|benchmarks|eval|launch|pretrain|modeling|data_pipeline|examples|docs)/[\w/.-]*\w\.\w+)"
    )
    named = {(page.name, path) for page in pages for path in re.findall(rooms, page.read_text()) if "NAME" not in path}
    assert len(named) > 50
    assert [(page, path) for page, path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_word_of_the_glossary_is_led_to():
    words = re.findall(r'<a id="([^"]+)">', (ROOT / "docs" / "glossary.md").read_text())
    pages = "".join(page.read_text() for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")])
    assert [word for word in words if f"glossary.md#{word})" not in pages] == []
