"""What the pages say is true: commands exist, links lead somewhere, examples run, CI does what the README says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagesmith.apps.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def shell_commands() -> list[str]:
    """Every `imagesmith ...` of every shell block, without what is piped into it, comments and redirections."""
    lines = [
        line
        for page in PAGES
        for _, kind, text in BLOCK.findall(page.read_text("utf-8"))
        if kind == "sh"
        for line in text.splitlines()
    ]
    found = []
    for line in lines:
        for part in re.split(r"\|(?=\s)|&&|;", line.partition(" #")[0]):
            match = re.search(r"(?:^|--no-python )\s*imagesmith\b(?! IN)(.*)", part.partition(" > ")[0])
            if match:
                found.append(match[1].strip())
    return found  # fmt: skip


@pytest.mark.parametrize("command", sorted(set(shell_commands())))
def test_every_command_on_a_page_is_one_the_program_has(command: str) -> None:
    """The accident: a flag is renamed, and the README teaches the old one for a year."""
    done = CliRunner().invoke(app, [*shlex.split(command), "--help"])
    assert done.exit_code == 0, done.output


def test_the_pages_were_read() -> None:
    """The accident: a pattern that matches nothing, and a law that examines nothing."""
    assert len(shell_commands()) > 15
    assert CliRunner().invoke(app, ["restore", "photo.jpg", "--no-such-flag", "--help"]).exit_code == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """The accident: a page is moved, and whoever follows the link finds nothing."""
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", other.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_on_a_page_compiles_and_names_what_exists(page: Path) -> None:
    """The accident: the first thing a newcomer copies is a NameError."""
    import imagesmith

    for _, kind, text in BLOCK.findall(page.read_text("utf-8")):
        if kind == "python":
            compile(re.sub(r"^   ", "", text, flags=re.MULTILINE), page.name, "exec")
            for name in re.findall(r"\bism\.(\w+)", text):
                assert hasattr(imagesmith, name), f"{page.name}: imagesmith.{name}"


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    """The accident: CI installs with flags that no reader has, and the README's own commands stop working unseen."""
    readme = (ROOT / "README.md").read_text("utf-8")
    for end in ("imagesmith demo", "pytest -n 2"):
        assert len(re.findall(rf"^pip install .* && {end}$", readme, re.MULTILINE)) == 1
        assert f'readme_command "{end}"' in (ROOT / ".ci" / "run").read_text()
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(example: Path) -> None:
    """The accident: an example grows into a program that nobody reads to the end."""
    assert example.read_text().count("\n") <= 40
    subprocess.run([sys.executable, "-m", "py_compile", str(example)], check=True)
