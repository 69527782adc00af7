"""`backstay schema`: the JSON Schema of the settings."""

import json

import click


@click.command()
def command() -> None:
    """Print the JSON Schema of the settings file, for editors and other tools."""
    from proxy.settings.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
