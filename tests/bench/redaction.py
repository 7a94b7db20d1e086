"""What redaction finds, what it takes for a secret that is none, and what it costs.

    python -m tests.bench.redaction [--each 20] [--rounds 7] [--megabytes 16] [--show]

Secrets of every kind are invented and planted in surroundings; real transcripts, where they lie
beside the checkout, have to come out as they went in, else `--show` tells what was taken. The cost
is that of reading a transcript from its bytes to its rows, with and without, in turns; a hostile
text is read at two sizes, and has to take as long a byte at both.
"""

from __future__ import annotations

import argparse
import random
import statistics
import string
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.core.redaction import Level, Redactor, redactor
from conv_realtime.core.sanitize import Sanitizer, storable
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.rows import Identity
from conv_realtime.testing import claude_line
from tests.planted import planted
from tests.samples import SAMPLES, claude_transcripts

LEVELS: tuple[Level, ...] = ("default", "strict")
SEED = 20_261_126
AROUND = ("{}", 'key="{}"', "see {} there", "export X={}\n", "first\\n{}", "({})", "a\n{}\nb")
WORDS = [f"word{number:03}" for number in range(400)]
NAMED = ("password={}", '"api_key": "{}"', "client-secret: {}", "DB_PWD='{}'", "token => `{}`")
HOSTILE = {
    "prose": "the quick brown fox jumps over it. ",
    "beginnings": "gh" + "p_ sk" + "-ant- AK" + "IA ",
    "users without passwords": "://a:",
    "unended tokens": "eyJaaaaaaaaa.",
    "armour without a key": "-----BEGIN " + "PRIVATE KEY-----",
    "private keys": "-----BEGIN " + "PRIVATE KEY-----\n" + ("aB3/" * 16 + "\n") * 20,
    "base64": "aB3/" * 16 + "\n",
    "one word": "aB3_",
    "only secrets": "gh" + "p_" + "a1B2" * 9 + " ",
    "emoji": "😀é",
}


# What is found ------------------------------------------------------------------------------


def found_by_kind(search: Redactor, each: int) -> tuple[Counter[str], Counter[str]]:
    """Gives how many of each kind were planted, and how many left nothing of themselves."""
    sown: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for secret in planted(SEED, each):
        for around in AROUND:
            text = around.format(secret.text)
            clean = search.redact(text)[0] if search.suspects(text.encode()) else text
            sown[secret.kind] += 1
            gone[secret.kind] += all(piece not in clean for piece in secret.secrets)
    return sown, gone


def without_form(chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield secrets that no form tells: what they are, a text, and the secret in it."""
    letters = string.ascii_letters + string.digits
    for length in (10, 16):
        word = "".join(chance.choices(letters, k=length - 1)) + chance.choice(string.digits)
        yield "named like one", chance.choice(NAMED).format(word), word
    for length in (24, 32, 40, 64):
        word = "".join(chance.choices(letters, k=length))
        yield f"{length} letters by lot", f"it is {word} now", word
    word = "".join(chance.choices(string.hexdigits.lower()[:16], k=32))
    yield "32 digits by lot", f"it is {word} now", word


def found_without_form(search: Redactor, each: int) -> Mapping[str, tuple[int, int]]:
    """Gives how many of such secrets were planted and found."""
    chance = random.Random(SEED)
    counts: dict[str, tuple[int, int]] = {}
    for _ in range(each * 10):
        for what, text, secret in without_form(chance):
            sown, gone = counts.get(what, (0, 0))
            counts[what] = sown + 1, gone + (secret not in search.redact(text)[0])
    return counts


# What is none -------------------------------------------------------------------------------


def texts(value: Any) -> Iterator[str]:
    """Yield every text of a JSON value, keys too."""
    if isinstance(value, str):
        yield storable(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def sample_texts() -> Iterator[str]:
    """Yield every text of every real transcript that is there."""
    for path in sorted(SAMPLES.rglob("*")):
        if path.suffix not in (".json", ".jsonl"):
            continue
        data = path.read_bytes()
        for line in data.split(b"\n") if path.suffix == ".jsonl" else [data]:
            try:
                yield from texts(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue


def alarms(search: Redactor) -> Iterator[tuple[str, str]]:
    """Yield the kind of each thing in real transcripts that was taken for a secret, and where."""
    seen = set()
    for text in sample_texts():
        if not search.suspects(text.encode()):
            continue
        clean, found = search.redact(text)
        at = 0
        for one in found:
            at = clean.index(f"[redacted:{one.kind}]", at) + 1
            if one not in seen:
                seen.add(one)
                yield one.kind, clean[max(0, at - 60) : at + 60]


# What it costs ------------------------------------------------------------------------------


def write_transcript(path: Path, size: int) -> None:
    """Writes prompts, answers and what tools gave back, a secret in one line of a thousand."""
    draw = random.Random(SEED)
    secrets = [secret.text for secret in planted(SEED)]
    with path.open("wb") as file:
        while file.tell() < size:
            said = " ".join(draw.choices(WORDS, k=draw.randint(10, 400)))
            if draw.random() < 0.001:
                said += f" {draw.choice(secrets)}"
            call = {"type": "tool_result", "tool_use_id": f"toolu_{draw.getrandbits(90):023x}"}
            message = {"role": "user", "content": [call | {"content": said}]}
            kind = draw.randrange(3)
            if kind == 2:
                result = {"stdout": said, "stderr": "", "interrupted": False}
                file.write(claude_line(said, message=message, toolUseResult=result))
            else:
                file.write(claude_line(said, "assistant" if kind else "user"))


def read_all(path: Path, sanitizer: Sanitizer) -> float:
    """Gives the CPU seconds from a file's bytes to its rows."""
    follower = Follower(str(path), ClaudeCode(), Identity(UUID(int=1), "bench"), sanitizer)
    began = time.process_time()
    with OpenFile(str(path)) as file:
        while follower.read(file, 8 * 2**20):
            pass
        while batch := follower.next_batch(follower.published, file, 500, 2 * 2**20):
            follower.advance(follower.published, batch)
    return time.process_time() - began


def cost(paths: list[Path], rounds: int) -> Mapping[str, list[float]]:
    """Gives the CPU seconds of each way to read all of `paths`, in turns; one to get warm."""
    levels: Sequence[Level] = ("off", *LEVELS)
    ways = {level: partial(Sanitizer, redactor=redactor(level)) for level in levels}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, make in ways.items():
            seconds = sum(read_all(path, make()) for path in paths)
            if number:
                taken[way].append(seconds)
    return taken


def hostile(search: Redactor, unit: str, size: int) -> float:
    """Gives the CPU seconds a byte for a text of one unit over and over, the better of three."""
    text = unit * (size // len(unit.encode()))
    clean, best = Sanitizer(redactor=search, max_text_bytes=2 * size), float("inf")
    for _ in range(3):
        began = time.thread_time()
        clean.text(text)
        best = min(best, time.thread_time() - began)
    return best / size


# The report ---------------------------------------------------------------------------------


def tell_found(each: int) -> None:
    """Prints what of the planted secrets is found."""
    for level in LEVELS:
        sown, gone = found_by_kind(redactor(level), each)
        missed = {kind: count - gone[kind] for kind, count in sown.items() if gone[kind] < count}
        print(
            f"{level}: {gone.total():,} of {sown.total():,} secrets of {len(sown)} kinds found,"
            f" missed {missed or 'none'}"
        )
    ways = {level: found_without_form(redactor(level), each) for level in LEVELS}
    for what, (sown_, _) in ways["default"].items():
        shares = ", ".join(f"{level} {ways[level][what][1]}" for level in LEVELS)
        print(f"  without a form, {what}: of {sown_:,} found {shares}")


def tell_alarms(*, show: bool) -> None:
    """Prints what in real transcripts is taken for a secret."""
    if not SAMPLES.exists():
        print("no real transcripts beside this checkout")
        return
    size = sum(len(text) for text in sample_texts())
    for level in LEVELS:
        taken = list(alarms(redactor(level)))
        print(
            f"{level}: {len(taken)} different alarms in {size / 1e6:.1f} MB of real texts:"
            f" {dict(Counter(kind for kind, _ in taken)) or 'none'}"
        )
        for kind, around in taken if show else ():
            print(f"  {kind}: {around!r}")


def tell_cost(name: str, paths: list[Path], rounds: int) -> None:
    """Prints what redaction adds to reading transcripts."""
    size = sum(path.stat().st_size for path in paths)
    taken = cost(paths, rounds)
    for way, seconds in taken.items():
        shares = [one / off - 1 for one, off in zip(seconds, taken["off"], strict=True)]
        speed = size / statistics.median(seconds) / 1e6
        print(
            f"{name}, {size / 1e6:.1f} MB, {way}: {speed:.0f} MB/s,"
            f" {statistics.median(shares):+.1%} ({min(shares):+.1%} to {max(shares):+.1%})"
        )


def tell_hostile(size: int) -> None:
    """Prints how fast hostile texts are read, and whether that depends on their length."""
    for what, unit in HOSTILE.items():
        small, large = (hostile(redactor("default"), unit, one) for one in (size // 16, size))
        print(f"{what}: {1 / large / 1e6:.1f} MB/s; a byte of 16 times as many {large / small:.2f}")


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--each", type=int, default=20, help="secrets of each form")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=float, default=16, help="of invented transcript")
    parser.add_argument("--show", action="store_true", help="tell what was taken for a secret")
    asked = parser.parse_args()
    tell_found(asked.each)
    tell_alarms(show=asked.show)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "5e551011-0000-4000-8000-000000000001.jsonl"
        write_transcript(path, int(asked.megabytes * 1e6))
        tell_cost("invented transcripts", [path], asked.rounds)
    if real := claude_transcripts():
        tell_cost("real transcripts", real, asked.rounds)
    tell_hostile(int(asked.megabytes * 2**20) // 4)


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Leaves the description as it is written."""


if __name__ == "__main__":
    main()
