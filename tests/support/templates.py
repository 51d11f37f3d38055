"""The templates of infra/, parsed with nothing of them lost."""

from functools import cache
from typing import Any

import yaml

from receipt_layoutlm.infra import template_path


class _Loader(yaml.SafeLoader):
    """!Ref X as {"Ref": X}, so that nothing of the template is lost."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        value: object = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {"Ref" if tag == "Ref" else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _tagged)


@cache
def template(name: str) -> dict[str, Any]:
    parsed = yaml.load(template_path(name).read_text(), Loader=_Loader)
    assert isinstance(parsed, dict)
    return parsed


def resources(name: str) -> dict[str, dict[str, Any]]:
    return template(name)["Resources"]  # type: ignore[no-any-return]


def properties(name: str, resource: str) -> dict[str, Any]:
    return resources(name)[resource]["Properties"]  # type: ignore[no-any-return]
