"""An Ansible callback: one line of JSON for each task of each host, to the file named by CLAIMS."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: claims
type: notification
short_description: what each task changed, for tests
description: Writes one line of JSON for each result to the file that CLAIMS names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "claims"

    def _tell(self, result, outcome):
        line = {
            "host": result._host.get_name(),
            "task": result._task.get_name().rpartition(" : ")[2],
            "outcome": outcome,
            "changed": bool(result._result.get("changed")),
            "said": str(result._result.get("msg", "")),
        }
        with Path(os.environ["CLAIMS"]).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def v2_runner_on_ok(self, result):
        self._tell(result, "ok")

    def v2_runner_on_skipped(self, result):
        self._tell(result, "skipped")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._tell(result, "failed")

    def v2_runner_on_unreachable(self, result):
        self._tell(result, "unreachable")
