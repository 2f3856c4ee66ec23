"""YAML that people write to declare something: plain data, read so that nothing in it is quietly overridden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def line_of(text: str, place: Sequence[str | int]) -> int:
    """The line, from 1, on which something stands in a document that ``load_plain`` read; of what is not there, the
    line of what should hold it.

    Args:
        place: keys and numbers that lead to it, from the outside.
    """
    import yaml

    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = node.start_mark.line + 1 if node is not None else 1
    for step in place:
        found: tuple[Any, Any] | None = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = (node.value[step], node.value[step])
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def load_plain(text: str) -> Any:
    """The data of a document. A key given twice is an error, not an override, and aliases are not followed.

    Raises:
        ValueError: it is no such YAML; the message says where.
    """
    import yaml

    class OnceLoader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.constructor.ConstructorError(
                    None, None, "aliases are not allowed", self.peek_event().start_mark
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            double = next((key for at, key in enumerate(keys) if key in keys[:at]), None)
            if double is not None:
                raise yaml.constructor.ConstructorError(None, None, f"{double!r} is there twice", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader=OnceLoader)  # noqa: S506 (a subclass of the safe loader)
    except (RecursionError, TypeError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
