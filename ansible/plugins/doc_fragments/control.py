# SPDX-License-Identifier: Apache-2.0
"""What the documentation of all modules of this collection has in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  socket:
    description: The control socket of kernlbd on the balancer.
    type: path
    default: /run/kernlb/control.sock
requirements:
  - a running kernlbd on the host that the task runs on (delegate to it); root, or a member of
    group C(kernlb)
  - Python >= 3.9 there, and nothing besides
attributes:
  check_mode:
    description: The daemon itself parses, checks and plans the change, and tells what it would
      do. Waits for nothing.
    support: full
  diff_mode:
    description: Shows the declaration before and after, and the operations that the kernel gets.
    support: full
"""
