"""The status page: a few static files and the read-only answers that they ask for.

Served beside ``/metrics``. Needs nothing but the daemon: no build step, no other host. It reads
and never writes; what may be done to kernlb is done over the control socket.
"""
