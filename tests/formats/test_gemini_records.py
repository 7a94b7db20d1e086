"""What one message of Gemini CLI says, in its logs and its files of before."""

from __future__ import annotations

import pytest

from conv_realtime.core.formats import gemini_records as gemini


@pytest.mark.parametrize(
    ("said", "role"),
    [
        ("<state_snapshot>\n<overall_goal>Roses</overall_goal>\n</state_snapshot>", "system"),
        ("<scratchpad>Roses.</scratchpad>\n<state_snapshot></state_snapshot>", "system"),
        ("- **Workspace Directories:**\n  - /work/garden\n", "system"),
        ("Here is the user's editor context as a JSON object. This is for", "system"),
        ("Here is a summary of changes in the user's editor context, in JSON", "system"),
        ("I ran the following shell command:\n```sh\nls\n```\n\nThis produced", "system"),
        ("User has manually exited Plan Mode. Switching to Auto-Edit mode.", "system"),
        ("Plan approved. Switching to Default mode.", "system"),
        ("I ran the following shell command: ls. Why is it slow?", "user"),
        ("Plant the roses", "user"),
    ],
)
def test_what_gemini_writes_in_a_users_name_is_the_systems(said: str, role: str) -> None:
    """Since it keeps all of its history: nobody typed it, and it waits for no answer."""
    found = gemini.said({"id": "u1", "type": "user", "content": [{"text": said}]})
    assert (found.role, found.state) == (role, ("active", "working") if role == "user" else None)
