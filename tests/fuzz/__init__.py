"""What is in a transcript file, made up by a fuzzer that sees which code it reaches."""
