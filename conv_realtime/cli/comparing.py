"""`verify`: do the transcripts and the database say the same?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from conv_realtime.cli.ending import run
from conv_realtime.cli.instance import Instance
from conv_realtime.cli.options import (
    clear_bar,
    common_options,
    emit,
    load_settings,
    local_port_option,
    machine_option,
    option,
    owner_option,
    paths_argument,
    printable,
    progress_bar,
    require_paths,
)

if TYPE_CHECKING:
    from conv_realtime.ingest import Ingest, Verified
    from conv_realtime.settings import Settings

_STATES = ("equal", "different", "missing", "forgotten")


@click.command()
@paths_argument
@common_options
@local_port_option
@owner_option
@machine_option
@option("--repair", "VERIFY_REPAIR", is_flag=True, help="Send what differs once more, and look.")
def verify(
    paths: Sequence[Path],
    as_json: bool,
    state_dir: Path | None,
    local_port: int,
    owner_id: UUID | None,
    machine: str | None,
    repair: bool,
) -> int:
    """Compare transcripts with the database.

    Every conversation, message by message: exit code 1 if one is missing or different. Those
    that were erased with `forget` are as they should be. It may run beside `up`.

    PATHs are files and folders; default: every assistant found in its usual place.
    """
    require_paths(paths)
    settings = load_settings(paths=paths, state_dir=state_dir, owner_id=owner_id, machine=machine)
    left: list[Verified] = []

    async def compare() -> None:
        left.extend(await _Comparison(as_json).run(settings, local_port, repair=repair))

    return run(compare(), terminated=1) or int(bool(left))


class _Comparison:
    """Compares, tells, and repairs if asked to."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._counts: Counter[str] = Counter()

    async def run(self, settings: Settings, local_port: int, *, repair: bool) -> list[Verified]:
        """Return what is not as it should be in the end."""
        from conv_realtime.cli.target import lasting_target
        from conv_realtime.ingest import Ingest

        async with AsyncExitStack() as stack:
            instance = stack.enter_context(Instance(settings.state_dir))
            found = await stack.enter_async_context(
                lasting_target(settings, instance, local_port=local_port)
            )
            ingest = await stack.enter_async_context(Ingest(settings=found.settings))
            left = await self._compare(ingest, found.settings.paths)
            if repair and left:
                for path, done in (await ingest.repair(left)).items():
                    self._say_repaired(path, done)
                self._counts.subtract(one.state for one in left)
                again = sorted({Path(one.path) for one in left})
                left = await self._compare(ingest, again, left)
        self._sum_up()
        return left

    async def _compare(
        self,
        ingest: Ingest,
        paths: Sequence[Path] | None,
        only: Sequence[Verified] | None = None,
    ) -> list[Verified]:
        wanted = None if only is None else {one.id for one in only}
        left = []
        with progress_bar("Comparing") as shown:
            async for one in ingest.verify(paths, shown):
                if wanted is not None and one.id not in wanted:
                    continue
                self._counts[one.state] += 1
                self._say(one)
                if one.state in ("different", "missing"):
                    left.append(one)
        return left

    def _say(self, one: Verified) -> None:
        if self._as_json:
            emit(
                {
                    "event": "conversation",
                    "id": str(one.id),
                    "path": one.path,
                    "state": one.state,
                    "messages": one.messages,
                    "differences": list(one.differences),
                }
            )
        elif one.state in ("different", "missing"):
            why = f": {'; '.join(one.differences)}" if one.differences else ""
            clear_bar()
            click.echo(printable(f"{one.state} {one.id} of {one.path}{why}"))

    def _say_repaired(self, path: str, done: str) -> None:
        if self._as_json:
            emit({"event": "repair", "path": path, "done": done})
        else:
            click.echo(printable(f"repair {path}: {done}"))

    def _sum_up(self) -> None:
        facts = {state: self._counts[state] for state in _STATES}
        if self._as_json:
            emit({"event": "summary", "conversations": sum(facts.values()), **facts})
        else:
            said = ", ".join(f"{count} {state}" for state, count in facts.items())
            click.echo(f"{sum(facts.values())} conversations: {said}")
