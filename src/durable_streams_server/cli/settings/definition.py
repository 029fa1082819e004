"""`setting` defines one setting as a field of a dataclass, and `Setting` is the click option that is made from it."""

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any, Final, Literal

import click
from click.core import ParameterSource

from ..output import shown
from ..values import Size
from .environment import EnvironmentOption, variable_of
from .sources import Sources

_KEY: Final = "setting"  # of our metadata in a field
_CLICK_TYPES: Final[dict[object, click.ParamType[Any]]] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
}


@dataclasses.dataclass(frozen=True)
class _Spec:
    """The arguments of `setting`."""

    help: str
    kind: click.ParamType[Any] | None
    metavar: str | None
    unset: str
    example: object
    reloadable: bool


def setting(
    default: object,
    help_text: str,
    *,
    kind: click.ParamType[Any] | None = None,
    metavar: str | None = None,
    unset: str = "",
    example: object = None,
    reloadable: bool = False,
) -> Any:
    """Returns the field of a setting.

    Args:
        default: The default value. None means that the server decides, or does without.
        help_text: What the setting does, in full sentences.
        kind: Converts and checks one value, such as `Size(1, 1000)`. Not needed for `bool`, for a `Literal`, and if every text or number is
            valid.
        metavar: The placeholder for the value in the help.
        unset: What applies if the default is None or an empty list, such as `half of --max-connections`. Empty if nothing applies.
        example: A value to show in the example file. Needed only if the default is None.
        reloadable: Whether a running server takes a new value from the file on SIGHUP.
    """
    spec = _Spec(help_text, kind, metavar, unset, example, reloadable)
    return dataclasses.field(default=default, metadata={_KEY: spec})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topic:
    """The base class of the topics. A topic has one field for each of its settings."""

    def check(self, sources: Sources) -> None:
        """Refuses values of this topic that contradict each other. The base class refuses nothing.

        Args:
            sources: Where each value came from, for the message.

        Raises:
            click.UsageError: Values contradict each other.
        """


class Setting(EnvironmentOption):
    """One setting as a click option: a flag that also reads an environment variable and a key of the settings file.

    Attributes:
        key: The name in the settings file, which is the name of the flag without its dashes.
        unset: What applies if the default is None or an empty list.
        example: A value to show in the example file, if the default is None.
        reloadable: Whether a running server takes a new value from the file on SIGHUP.
    """

    envvar: str

    def __init__(self, name: str, annotation: object, default: object, spec: _Spec) -> None:
        self.key = name.replace("_", "-")
        self.unset = spec.unset
        self.example = spec.example
        self.reloadable = spec.reloadable
        shape = _without_none(annotation)
        is_list = typing.get_origin(shape) is tuple
        is_choice = typing.get_origin(shape) is Literal
        kind = click.Choice(typing.get_args(shape)) if is_choice else spec.kind
        is_switch = shape is bool
        has_opposite = is_switch and not self.key.startswith("no-")
        super().__init__(
            [f"--{self.key}/--no-{self.key}" if has_opposite else f"--{self.key}", name],
            type=None if is_switch else kind or _CLICK_TYPES[str if is_list else shape],
            is_flag=is_switch or None,
            multiple=is_list,
            default=default,
            help=spec.help,
            metavar=spec.metavar,
            envvar=variable_of(name),
        )

    def handle_parse_result(
        self, ctx: click.Context, opts: Any, args: list[str]
    ) -> tuple[Any, list[str]]:
        """Converts and checks the value. An error names the flag, the variable or the key that the value came from."""
        try:
            return super().handle_parse_result(ctx, opts, args)
        except click.BadParameter as error:
            sources, hint = Sources.of(ctx, [self]), self.get_error_hint(ctx)
            if sources.kind(self.name) is not ParameterSource.COMMANDLINE:
                hint = sources.label(self.name)
            raise click.BadParameter(shown(error.message), param_hint=hint) from None

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Returns what the help adds to the text: the default as the settings file would write it, and the range."""
        extra = super().get_help_extra(ctx)
        if self.default_text:
            extra["default"] = self.default_text
        return extra

    @property
    def default_text(self) -> str:
        """The default in words."""
        if self.default is None or self.default == ():
            return self.unset
        return self.text(self.default)

    def text(self, value: object) -> str:
        """Returns a value other than None as the user would write it after the flag."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ", ".join(value)
        if isinstance(self.type, Size) and isinstance(value, int):
            return self.type.text(value)
        return str(value).removesuffix(".0")


def options_of(topic: type[Topic]) -> Sequence[Setting]:
    """Returns a click option for each setting of a topic, in the order of its fields."""
    annotations = typing.get_type_hints(topic)
    return [
        Setting(field.name, annotations[field.name], field.default, field.metadata[_KEY])
        for field in dataclasses.fields(topic)
    ]


def _without_none(annotation: object) -> Any:
    """Returns `T` for the annotation `T | None`."""
    if isinstance(annotation, types.UnionType):
        (annotation,) = (part for part in annotation.__args__ if part is not type(None))
    return annotation
