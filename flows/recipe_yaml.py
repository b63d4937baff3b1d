"""YAML as recipes use it: the scalars of YAML 1.2, no repeated keys, aliases of a bounded size."""

import re
from typing import Any

import yaml

MAX_NODES = 100_000  # values of a recipe, each alias counted with all that it stands for


class _Loader(yaml.SafeLoader):
    """A safe loader in which ``no``, dates and ``12:30`` are texts, and no key is repeated."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Construct a mapping; raise ``ConstructorError`` if a key is repeated."""
        keys = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name != "<<" and name in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} is repeated", key.start_mark
                )
            keys.add(name)
        return super().construct_mapping(node, deep=deep)


# PyYAML resolves scalars by YAML 1.1. These are those of the core schema of YAML 1.2 (section
# 10.3.2), with `_` between digits.
_Loader.yaml_implicit_resolvers = {
    first: [
        item
        for item in resolvers
        if item[0] in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def parse_yaml(text: str) -> Any:
    """Parse one YAML document.

    Raises:
        YAMLError: if it is not one; if an alias refers to what holds it; or if it is too large or too
            deep. The message names the line.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_nodes(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("values are nested too deeply") from None
    except ValueError as error:  # such as a number with too many digits
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _count_nodes(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count a node with all that is below it, as often as aliases name it."""
    if id(node) in counts:
        if not counts[id(node)]:
            raise yaml.constructor.ConstructorError(
                None, None, "the value refers to itself by an alias", node.start_mark
            )
        return counts[id(node)]
    counts[id(node)] = 0  # until all below it is counted
    children = node.value if isinstance(node, yaml.CollectionNode) else ()
    total = 1
    for child in children:
        for item in child if isinstance(child, tuple) else (child,):
            total += _count_nodes(item, counts)
    if total > MAX_NODES:
        raise yaml.constructor.ConstructorError(
            None, None, f"more than {MAX_NODES:,} values, counting aliases", node.start_mark
        )
    counts[id(node)] = total
    return total
