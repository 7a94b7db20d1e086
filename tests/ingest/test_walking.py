"""A walk finds every file once, whatever links and entries there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.edges import disk
from tests.ingest.watching import new_session


def test_links_that_lead_in_circles_find_nothing_twice(tmp_path: Path) -> None:
    """To itself, to a folder above, to a sibling, to one another, to nothing."""
    tree = tmp_path / "projects"
    path = new_session(tree / "-p", "q")
    (tree / "-p" / "self").symlink_to(tree / "-p")
    (tree / "-p" / "up").symlink_to(tmp_path)
    (tree / "root").symlink_to("/")
    (tree / "nothing").symlink_to(tmp_path / "nothing")
    (tree / "loop").symlink_to(tree / "loop")
    outside = new_session(tmp_path.parent / f"{tmp_path.name}-outside", "r")
    (outside.parent / "back").symlink_to(tree)
    (tree / "a").symlink_to(outside.parent)
    (tree / "b").symlink_to(outside.parent)
    found = disk.walk([tree], ClaudeCode().is_named)
    assert len(found.links) == 1
    assert sorted(found.stats) == sorted([str(path), str(Path(found.links[0]) / outside.name)])


class _Untold:
    """An entry of a file system that does not say what it is, and refuses to be asked."""

    name = path = "untold"

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        raise PermissionError

    def is_symlink(self) -> bool:
        raise PermissionError


def test_an_entry_that_cannot_be_told_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind it in its folder is found all the same."""
    path = new_session(tmp_path, "q")
    scandir = os.scandir

    @contextmanager
    def odd(folder: str) -> Iterator[Iterator[object]]:
        with scandir(folder) as entries:
            yield iter([_Untold(), *entries])

    monkeypatch.setattr(os, "scandir", odd)
    assert list(disk.walk([tmp_path], ClaudeCode().is_named).stats) == [str(path)]


@pytest.mark.parametrize("below", [True, False], ids=["below", "itself"])
def test_a_folder_that_is_closed_is_named(
    tmp_path: Path, close: Callable[[Path], None], below: bool
) -> None:
    """Whoever looks for what is not there learns why; what lies beside it is found."""
    path = new_session(tmp_path / "open", "q")
    closed = tmp_path / "closed" if below else tmp_path
    (tmp_path / "closed").mkdir()
    close(closed)
    found = disk.walk([tmp_path], ClaudeCode().is_named)
    assert found.odd == {str(closed): "Permission denied"}
    assert list(found.stats) == ([str(path)] if below else [])
