"""The control interface: HTTP and JSON over a unix socket, versioned under /v1."""
