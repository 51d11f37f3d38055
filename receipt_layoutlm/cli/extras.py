"""Says which extra to install, before anything is done that would need it."""

from importlib.util import find_spec

import click

MODULES = {"train": ("torch", "transformers", "safetensors"), "local": ("faker",)}


def require(extra: str) -> None:
    """A one-line error when a module of the extra is not installed. Imports nothing."""
    missing = [module for module in MODULES[extra] if find_spec(module) is None]
    if missing:
        raise click.ClickException(f"{', '.join(missing)} not installed: pip install 'receipt-layoutlm[{extra}]'")
