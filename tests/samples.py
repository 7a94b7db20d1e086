"""Real transcripts that may lie beside a checkout; tests that use them pass without them."""

from __future__ import annotations

from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"


def growth_snapshots() -> list[list[Path]]:
    """Return the snapshots of each growing transcript, smallest first."""
    folders = sorted((SAMPLES / "claude-growth-snapshots").glob("*"))
    return [sorted(folder.glob("*.jsonl"), key=lambda path: int(path.stem)) for folder in folders]


def claude_transcripts() -> list[Path]:
    """Return every Claude Code transcript among the samples."""
    return sorted(path for top in SAMPLES.glob("claude-v*") for path in top.rglob("*.jsonl"))


def gemini_states() -> list[tuple[Path, Path]]:
    """Return two states of one real session of Gemini CLI, the older one first."""
    folder = SAMPLES / "gemini-json"
    states = (folder / "9c-53780d06b7-0.json", folder / "ab-2b9748b105-0.json")
    return [states] if folder.exists() else []
