"""``kernlb schema``: what editors need to complete and check documents."""

from __future__ import annotations

import json

import click

from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command


@click.command(
    cls=Command,
    examples="""
        kernlb schema > kernlb-service.schema.json
        kernlb schema settings
    """,
)
@click.argument(
    "what",
    type=click.Choice(["service", "settings"]),
    default="service",
    metavar="[service|settings]",
)
@pass_console
def schema(console: Console, what: str) -> int:
    """Print the JSON Schema of service documents, or of kernlb.yaml (settings).

    Needs no daemon. Always JSON.
    """
    from kernlb.config import service_schema, settings_schema

    document = service_schema() if what == "service" else settings_schema()
    console.print(json.dumps(document, indent=2))
    return DONE
