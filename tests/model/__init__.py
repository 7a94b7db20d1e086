"""The promises on virtual time, without I/O: thousands of unlucky days in a minute.

What is tried is the library's own sender, feeds, log, hub and replay; what is modelled is the
world around them: files, a database whose transactions commit out of order, Realtime that loses
messages, a network that breaks, processes that die, and clients that come back.
"""
