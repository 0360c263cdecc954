"""The pages hold together: links lead somewhere, the README stays one screen."""

import re

import pytest
from pages import PAGES, ROOT, blocks

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchor(heading):
    """The anchor that a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http:", "https:")):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: no {link}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in map(anchor, headings), f"{page}: no heading {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page):
    """Modules, scripts and tests in backticks or commands."""
    text = page.read_text(encoding="utf-8")
    for name in re.findall(
        r"\b(?:scripts|experiments|tests|seg_jax)/[\w/]+\.(?:py|sh|json|md)\b", text
    ):
        if "NAME" not in name:
            assert (ROOT / name).exists(), f"{page}: no {name}"


def test_readme_is_one_screen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    (code,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in code.text.splitlines() if line]) <= 8


def test_every_page_is_in_the_site():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        assert f": {path.relative_to(ROOT / 'docs').as_posix()}\n" in text, f"mkdocs.yml: no {path}"
