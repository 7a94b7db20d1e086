"""`conv-realtime`, and `python -m conv_realtime`."""

import sys


def main() -> None:
    """Run a command."""
    try:
        from conv_realtime.cli import main as commands
    except KeyboardInterrupt:  # nobody is there yet who would end in order
        sys.exit(130)
    commands()


if __name__ == "__main__":
    main()
