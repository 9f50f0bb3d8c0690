"""The pages: complete, and without a link that leads nowhere. That their commands work is shown in tests/e2e."""

from __future__ import annotations

import re

import pytest
import yaml
from charting import ROOT

from chart import api
from model_runtime_operator import vocabulary

DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "helm" / "README.md"]
NOTHING_WRONG = {"Paused", "ScaledToZero", "Available", "RolledOut", "NotStalled", "Accepted"}


def test_every_reason_has_its_remedy_and_no_other_word_is_taken_for_one() -> None:
    _, _, remedies = (DOCS / "kubernetes.md").read_text().partition("What to do:")
    first = [line.split("|")[1] for line in remedies.splitlines() if line.startswith("| `")]
    told = {word for cell in first for word in re.findall(r"`(\w+)`", cell)}
    assert told == set(vocabulary.REASONS) - NOTHING_WRONG


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: object) -> None:
    text = page.read_text()  # type: ignore[attr-defined]
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)", text):
        file = (page.parent / target).resolve()  # type: ignore[attr-defined]
        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in _anchors(file.read_text()), f"{target} has no heading #{anchor}"


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_field_of_the_spec_is_in_the_reference() -> None:
    crd = ROOT / "helm" / "files" / "crd.yaml"
    schema = yaml.safe_load(crd.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    page = api.page(crd)
    fields = schema["properties"]["spec"]["properties"]
    assert len(fields) > 25
    assert [name for name in fields if f"`{name}`" not in page and f"### spec.{name}\n" not in page] == []


@pytest.mark.parametrize("page", ["sources.md", "api.md"])
def test_every_source_of_a_model_is_told_of(page: str) -> None:
    crd = yaml.safe_load((ROOT / "helm" / "files" / "crd.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert [source for source in spec["model"]["properties"] if f"`{source}`" not in (DOCS / page).read_text()] == []
