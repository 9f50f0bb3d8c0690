"""helm/README.md: the chart's values as a table, each with the comment over it in values.yaml. Reads text; knows no helm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SOURCE = "<!-- GENERATED from values.yaml and Chart.yaml by `make render` -->"


class Undocumented(Exception):
    """A value without a comment over it."""


class Value(NamedTuple):
    """One value: its dotted key, its default and what the comment over it says."""

    key: str
    default: Any
    meaning: str


def page(chart: Path) -> str:
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    rows = [f"| `{value.key}` | `{_shown(value.default)}` | {value.meaning} |" for value in read(chart / "values.yaml")]
    table = ["| value | default | meaning |", "|---|---|---|", *rows]
    head = _HEAD.format(name=about["name"], description=about["description"], source=SOURCE)
    return head + "\n".join(table) + "\n"


def read(path: Path) -> list[Value]:
    """The values in the file's order. Raises Undocumented."""
    text = path.read_text()
    lines = text.splitlines()
    return [
        Value(key, _plain(node), _comment_over(lines, line, key)) for key, line, node in _leaves(yaml.compose(text), "")
    ]


def _leaves(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int, yaml.Node]]:
    """Each documented key: a block mapping is descended into, anything written in one line is a value."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and not value.flow_style and not _is_quantities(name):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, key.start_mark.line, value


def _is_quantities(name: str) -> bool:
    return name == "resources"  # one value, though it takes two lines


def _comment_over(lines: list[str], line: int, key: str) -> str:
    comment: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        comment.insert(0, lines[line].lstrip().removeprefix("#").strip())
    if not comment:
        raise Undocumented(f"values.yaml: expected a comment over {key}, got none")
    return " ".join(comment)


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def _shown(default: Any) -> str:
    return json.dumps(default, ensure_ascii=False)


_HEAD = """{source}
# {name}

{description}

```sh
helm install model-runtime-operator helm --namespace model-runtime-system --create-namespace
helm test model-runtime-operator --namespace model-runtime-system
```

`-f values-ha.yaml` runs two operators on different nodes. The CustomResourceDefinition is upgraded with the chart. It outlives
`helm uninstall`, as do all ModelRuntimes, which continue to serve. To install without Helm, apply
[manifests/install.yaml](../manifests/install.yaml), which is rendered from this chart.

The notes after the installation and [docs/kubernetes.md](../docs/kubernetes.md) describe the next steps.

## Values

"""
