"""docs/monitoring: alerts that fire when they should, a dashboard that asks for what there is."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kernlb import metrics
from tests.unit.pages import ROOT
from tests.unit.test_docs_served import _metrics, _source

FOLDER = ROOT / "docs/monitoring"
ALERTS = FOLDER / "alerts.yaml"
DASHBOARD = FOLDER / "kernlb-overview.json"
OF_PROMETHEUS = {"instance", "job"}  # labels that the scrape adds

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (package prometheus)"
)


def promtool(*words: str, text: str | None = None, folder: Path = FOLDER) -> str:
    run = subprocess.run(
        ["promtool", *words], cwd=folder, input=text, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def asked() -> Iterator[str]:
    """Every expression of the dashboard, its variables filled in."""
    board = dashboard()
    raw = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    raw += [each["expr"] for each in board["annotations"]["list"]]
    for each in raw:
        yield (
            each.replace("$__rate_interval", "5m")
            .replace("$instance", ".*")
            .replace("$service", ".*")
        )


def served() -> dict[str, tuple[str, ...]]:
    """Samples of a page with everything on it, and their labels."""
    page = asyncio.run(metrics.render(_source())).decode()
    found: dict[str, tuple[str, ...]] = {}
    for name, (kind, labels, _) in _metrics(page).items():
        endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {f"{name}{ending}": (*labels, "le") for ending in endings}
    return found


@pytest.mark.parametrize("of", ["alerts", "dashboard", "variables"])
def test_every_metric_and_label_that_is_asked_for_is_served(of: str) -> None:
    have = served()
    if of == "alerts":
        expressions = [rule["expr"] for rule in rules()]
    elif of == "dashboard":
        expressions = list(asked())
    else:
        variables = dashboard()["templating"]["list"]
        expressions = [each["definition"] for each in variables if "definition" in each]
    names = set()
    for expression in expressions:
        for name, labels in re.findall(r"\b(kernlb_\w+)(?:\{([^}]*)\})?", expression):
            names.add(name)
            assert name in have, f"{expression}: there is no {name}"
            wanted = set(re.findall(r"(\w+)\s*=", labels))
            assert wanted <= {*have[name], *OF_PROMETHEUS}, f"{expression}: {name} has {have[name]}"
    assert names


def test_every_alert_says_what_is_wrong_where_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    tested = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    assert set(names) <= {each["name"] for each in tested}
    page = (FOLDER / "README.md").read_text()
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert "$labels." in rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert f"`{rule['alert']}`" in page


def test_panels_do_not_lie_on_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    numbers = []
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        numbers.append(panel["id"])
    assert len(set(numbers)) == len(numbers)


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("check", "rules", "alerts.yaml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yaml")


@needs_promtool
def test_the_dashboards_expressions_are_promql(tmp_path: Path) -> None:
    recorded = [{"record": f"x{number}", "expr": each} for number, each in enumerate(asked())]
    rules_file = {"groups": [{"name": "dashboard", "rules": recorded}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules_file))
    assert f"{len(recorded)} rules found" in promtool(
        "check", "rules", "rules.yaml", folder=tmp_path
    )


@needs_promtool
def test_the_page_keeps_to_prometheus_conventions() -> None:
    page = asyncio.run(metrics.render(_source())).decode()
    assert promtool("check", "metrics", text=page) == ""
