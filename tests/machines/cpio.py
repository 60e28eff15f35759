"""An initramfs in memory: the "newc" format of cpio, as the kernel reads it.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import stat

NAME_END = b"\0"


class Archive:
    """Folders before what is in them. All is root's."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def folder(self, path: str) -> None:
        self._add(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, content: bytes, mode: int) -> None:
        self._add(path, stat.S_IFREG | mode, content)

    def packed(self) -> bytes:
        """All of it, with the trailer that ends an archive."""
        return b"".join([*self._parts, _entry("TRAILER!!!", 0, 0, b"")])

    def _add(self, path: str, mode: int, content: bytes) -> None:
        self._inode += 1
        self._parts.append(_entry(path, self._inode, mode, content))


def _entry(path: str, inode: int, mode: int, content: bytes) -> bytes:
    name = path.encode() + NAME_END
    # inode, mode, uid, gid, links, time, size, device (2), device node (2), name, check
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _aligned(header) + _aligned(content)


def _aligned(block: bytes) -> bytes:
    return block + bytes(-len(block) % 4)
