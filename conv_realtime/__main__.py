"""`python -m conv_realtime` is `conv-realtime`."""

from conv_realtime.cli import main

if __name__ == "__main__":
    main()
