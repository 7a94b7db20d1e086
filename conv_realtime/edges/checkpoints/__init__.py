"""What the state directory keeps: how far each transcript is acknowledged, and what was refused.

* `kept`: the checkpoints themselves
* `remembered`: the same in memory, with tens of thousands of an earlier run
* `documents`: what was sent of documents, which say everything anew each time
* `letters`: dead letters, and the conversations that were erased for good
* `survey`: all of it, for somebody who only looks
* `file`: the SQLite file that all of this lies in
* `lock`: whose turn it is
* `place`: the directory, and the name of this machine in it
"""

from __future__ import annotations

from conv_realtime.edges.checkpoints.kept import Checkpoints, KeptConversation
from conv_realtime.edges.checkpoints.letters import DeadLetters
from conv_realtime.edges.checkpoints.lock import StateLock, take_lock
from conv_realtime.edges.checkpoints.place import machine_id, make_state_dir, using
from conv_realtime.edges.checkpoints.remembered import Remembered
from conv_realtime.edges.checkpoints.survey import Survey, survey

__all__ = [
    "Checkpoints",
    "DeadLetters",
    "KeptConversation",
    "Remembered",
    "StateLock",
    "Survey",
    "machine_id",
    "make_state_dir",
    "survey",
    "take_lock",
    "using",
]
