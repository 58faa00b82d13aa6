#!/usr/bin/python3
"""Prints the space of the job queue's disk, for the schedd's ad (SCHEDD_CRON in manager.conf)."""

import shutil
import sys

usage = shutil.disk_usage("/var/lib/swarm-runner/spool")
sys.stdout.write(f"SpoolFreeBytes = {usage.free}\nSpoolSizeBytes = {usage.total}\n- update:true\n")
