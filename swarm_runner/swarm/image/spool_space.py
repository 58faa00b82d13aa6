#!/usr/bin/python3
"""Prints the space of the job queue's disk, for the schedd's ad (SCHEDD_CRON in manager.conf)."""

import os
import shutil

usage = shutil.disk_usage(os.environ.get("SWARM_RUNNER_SPOOL", "/var/lib/swarm-runner/spool"))
print(f"SpoolFreeBytes = {usage.free}")
print(f"SpoolSizeBytes = {usage.total}")
print("- update:true")
