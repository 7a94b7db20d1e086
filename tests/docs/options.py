"""The table of options, made from the commands: `python -m tests.docs.options` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator

import click

from conv_realtime.cli import main
from tests.docs.knobs import command
from tests.docs.pages import ROOT

PAGE = ROOT / "conv_realtime" / "cli" / "README.md"
_BEGIN, _END = "<!-- made from the commands -->\n", "<!-- to here -->\n"


def page(text: str) -> str:
    """Return the page `text` with the options of this version between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    made = "\n".join(_rows())
    return f"{before}{_BEGIN}\n{made}\n\n{_END}{after}"


def _rows() -> Iterator[str]:
    """Yield the lines of the table: an option once, with the commands that take it."""
    names = main.list_commands(click.Context(main))
    takers: dict[tuple[str, str, str, str], list[str]] = {}
    for name in names:
        for one in command(name).params:
            if isinstance(one, click.Option):
                takers.setdefault(_described(one), []).append(name)
    yield "| option | variable | of | what |"
    yield "|---|---|---|---|"
    for (flags, variable, default, what), takes in takers.items():
        of = "all" if takes == names else ", ".join(f"`{name}`" for name in takes)
        yield f"| {flags} | `{variable}` | {of} | {what}{default} |"


def _described(option: click.Option) -> tuple[str, str, str, str]:
    shown = option.default if option.show_default else None
    default = "" if shown is None else f" Default: `{str(shown).removesuffix('.0').lower()}`."
    flags = "/".join([*option.opts, *option.secondary_opts])
    return f"`{flags}`", str(option.envvar), default, option.help or ""


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
