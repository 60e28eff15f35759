"""The table of a role's variables, from its argument specs: `python -m tests.ansible.variables`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[2] / "ansible" / "roles"
BEGIN, END = "<!-- variables: begin -->\n", "<!-- variables: end -->\n"


def specs(role: str) -> dict[str, dict[str, Any]]:
    """Options of a role's entry `main` by name."""
    text = (ROLES / role / "meta" / "argument_specs.yml").read_text()
    return yaml.safe_load(text)["argument_specs"]["main"]["options"]


def table(role: str) -> str:
    rows = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in specs(role).items():
        rows.append(f"| `{name}` | {_type(option)} | {_default(option)} | {_meaning(option)} |")
    return "\n".join(rows) + "\n"


def filled(role: str) -> str:
    """The role's README with the table as it is to be."""
    text = (ROLES / role / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(role)}{END}{after}"


def _type(option: dict[str, Any]) -> str:
    if choices := option.get("choices"):
        return ", ".join(f"`{choice}`" for choice in choices)
    return f"list of {option['elements']}" if "elements" in option else option["type"]


def _default(option: dict[str, Any]) -> str:
    default = option["default"]
    if isinstance(default, str) and "{{" in default:
        return "the checkout's `dist`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default not in ("", [], {}) else "none"


def _meaning(option: dict[str, Any]) -> str:
    text = " ".join(option["description"])
    return re.sub(r"[CI]\(([^)]*)\)", r"`\1`", text)


if __name__ == "__main__":
    for each in ("kernlb", "kernlb_realserver"):
        (ROLES / each / "README.md").write_text(filled(each))
