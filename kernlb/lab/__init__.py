"""The lab: a small network in namespaces, with real clients and real servers, for demo and tests.

`topology` says what the network is, `commands` turns it into lists of commands, `network` applies
and removes them, `backend` and `client` are the two programs that talk over it, and `rung` finds
a kernel to run it all on. Nothing here is imported by the daemon.
"""
