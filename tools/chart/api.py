"""docs/api.md: every field of a ModelRuntime with its type, its default, its limits and its meaning, from the CRD alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Schema = Mapping[str, Any]


def page(crd: Path) -> str:
    definition = yaml.safe_load(crd.read_text())["spec"]
    version = definition["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    names = definition["names"]
    head = _HEAD.format(
        kind=names["kind"],
        api_version=f"{definition['group']}/{version['name']}",
        plural=names["plural"],
        short=names["shortNames"][0],
        description=schema["description"],
    )
    sections = [*_sections("spec", schema), *_sections("status", schema)]
    return head + "\n".join(["## Rules of the whole\n", *_rules(schema), "", *_columns(version), *sections])


def _sections(part: str, schema: Schema) -> Iterator[str]:
    """A heading and table for the plain fields, then one for each field that has fields of its own."""
    inside = schema["properties"][part]
    required = inside.get("required", ())
    plain = {name: field for name, field in inside["properties"].items() if not _below(field)}
    yield f"## {part}\n"
    yield f"{inside['description']}\n"
    rules = _rules(inside)
    yield from [*rules, ""] if rules else []
    yield from _table(_row(name, field, name in required) for name, field in plain.items())
    for name, field in inside["properties"].items():
        if name not in plain:
            yield f"### {part}.{name}\n"
            yield f"{field['description']}{' Required.' if name in required else ''}\n"
            yield from _table(_rows("", field))
            yield from [*_rules(field), ""] if _rules(field) else []


def _columns(version: Schema) -> list[str]:
    rows = [
        f"| {column['name'].upper()} | {column['description']}{' Only with `-o wide`.' if column.get('priority') else ''} |"
        for column in version["additionalPrinterColumns"]
    ]
    return ["## What `kubectl get` shows\n", "| column | meaning |", "|---|---|", *rows, ""]


def _rows(prefix: str, schema: Schema, told: list[tuple[str, Any]] | None = None) -> Iterator[str]:
    """The fields inside and below; those that an earlier field has in just the same way are told once."""
    told = [] if told is None else told
    required = schema.get("required", ())
    for name, field in _below(schema).items():
        path = f"{prefix}.{name}" if prefix and not name.startswith("[") else f"{prefix}{name}"
        inside = _below(field)
        same = next((other for other, fields in told if fields == inside), None) if inside else None
        if field.get("type") != "object" or not name.startswith(("[", "<")) or not inside:
            yield _row(path, field, name in required, f"Its fields are those of `{same}`." if same else "")
        if inside and not same:
            yield from _rows(path, field, told)
            told.append((path, inside))


def _below(schema: Schema) -> dict[str, Schema]:
    """The fields inside: properties by name, a map's values as <name>, a list's items as []."""
    if "properties" in schema:
        return dict(schema["properties"])
    if isinstance(schema.get("additionalProperties"), Mapping):
        return {"<name>": schema["additionalProperties"]}
    return {"[]": schema["items"]} if "items" in schema else {}


def _table(rows: Iterator[str]) -> list[str]:
    return ["| field | type | default | meaning |", "|---|---|---|---|", *rows, ""]


def _row(path: str, field: Schema, is_required: bool, more: str = "") -> str:
    default = "*required*" if is_required else f"`{json.dumps(field['default'])}`" if "default" in field else ""
    meaning = " ".join([field.get("description", ""), *_limits(field), more])
    return f"| `{path}` | {_type(field)} | {default} | {_cell(meaning)} |"


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    kind = str(field.get("type", "any"))
    return {"array": "list", "object": "map" if "additionalProperties" in field else "object"}.get(kind, kind)


def _limits(field: Schema) -> list[str]:
    limits = []
    if "enum" in field:
        limits.append(f"One of {', '.join(str(each) for each in field['enum'])}.")
    if "minimum" in field and "maximum" in field:
        limits.append(f"{field['minimum']} to {field['maximum']}.")
    return limits


def _rules(schema: Schema) -> list[str]:
    return list(dict.fromkeys(f"* {_cell(rule['message'])}" for rule in schema.get("x-kubernetes-validations", ())))


def _cell(text: str) -> str:
    """Text for a table: `code` stays as it is, elsewhere `<` would begin a tag."""
    parts = text.strip().replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


_HEAD = """<!-- GENERATED from helm/files/crd.yaml by `make render` -->
# The API: {kind}

`{api_version}`, `{plural}` (`{short}`), namespaced, with the subresources `status` and `scale`. {description}

In a cluster, `kubectl explain modelruntime.spec --recursive` tells the same. Field names with `<name>` are the entries of a map,
those with `[]` the items of a list. A required field is required where the object around it is there.

"""
