"""YAML that people write to declare something: plain data, read so that nothing in it is quietly overridden."""

from __future__ import annotations

from typing import Any


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
