"""HTCondor's numbers, under HTCondor's names.

Source: HTCondor manual, "Job ClassAd Attributes" (JobStatus, JobUniverse, HoldReasonCode,
HoldReasonSubCode) and "Job Event Log Codes". Only the numbers that swarm_runner uses are listed:
compare a number with a member, but do not convert an arbitrary number.
"""

from __future__ import annotations

import errno
from enum import IntEnum


class JobStatus(IntEnum):
    """The state of a job in the queue or in the history (`JobStatus`)."""

    IDLE = 1
    """Waits for a slot."""
    RUNNING = 2
    """Runs in a slot."""
    REMOVED = 3
    """Was removed. It stays in the queue until its executor has stopped it."""
    COMPLETED = 4
    """Ended by itself. A spooled job stays in the queue until its output is retrieved."""
    HELD = 5
    """Stays in the queue without running, until it is released or removed."""
    TRANSFERRING_OUTPUT = 6
    """Ended; its output files are being transferred."""
    SUSPENDED = 7
    """Is paused in its slot."""


class HoldCode(IntEnum):
    """The reason for a hold (`HoldReasonCode`)."""

    USER_REQUEST = 1
    """A user held the job."""
    JOB_POLICY = 3
    """An expression of the job became true, such as `periodic_hold`."""
    FAILED_TO_CREATE_PROCESS = 6
    """The starter could not start the job. In the vm universe: VMGAHP refused it."""
    TRANSFER_OUTPUT_ERROR = 12
    """The output files could not be transferred. The subcode is an errno."""
    TRANSFER_INPUT_ERROR = 13
    """The input files could not be transferred. The subcode is an errno."""
    SPOOLING_INPUT = 16
    """The job's input files are being spooled."""
    HOOK_PREPARE_JOB_FAILURE = 19
    """The executor's prepare-job hook failed."""
    STARTD_HELD_JOB = 21
    """An expression of the executor became true (`WANT_HOLD`)."""
    SYSTEM_POLICY = 26
    """An expression of the access point became true (`SYSTEM_PERIODIC_HOLD`)."""
    JOB_OUT_OF_RESOURCES = 34
    """The job used more than it requested. The subcode names the resource."""
    INVALID_DOCKER_IMAGE = 35
    """The docker universe could not pull the image or start a container from it."""
    JOB_DURATION_EXCEEDED = 46
    """The job exceeded `allowed_job_duration`, which includes file transfer."""
    JOB_EXECUTE_EXCEEDED = 47
    """The job exceeded `allowed_execute_duration`."""


class HoldSubcode(IntEnum):
    """The detail of a hold (`HoldReasonSubCode`); its meaning depends on the hold code."""

    NONE = 0
    """No detail."""
    ENOENT = errno.ENOENT
    """TRANSFER_INPUT_ERROR, TRANSFER_OUTPUT_ERROR: a file does not exist."""
    MEMORY = 102
    """JOB_OUT_OF_RESOURCES, STARTD_HELD_JOB: memory."""
    DISK = 104
    """JOB_OUT_OF_RESOURCES, STARTD_HELD_JOB: disk."""


class Universe(IntEnum):
    """How HTCondor runs a job (`JobUniverse`)."""

    VANILLA = 5
    """A program, and also the docker universe, which is vanilla with `WantDocker`."""
    VM = 13
    """A virtual machine."""


class EventType(IntEnum):
    """The kind of an event in the job event log (`EventTypeNumber`)."""

    SUBMIT = 0
    """The job was submitted."""
    EXECUTE = 1
    """The job started to run."""
    JOB_EVICTED = 4
    """The job's run ended before the job did; the job becomes idle."""
    JOB_TERMINATED = 5
    """The job ended, by an exit code or a signal."""
    IMAGE_SIZE = 6
    """The job's measured memory use changed."""
    SHADOW_EXCEPTION = 7
    """The shadow failed, which ends the run; the job becomes idle."""
    JOB_ABORTED = 9
    """The job was removed."""
    JOB_HELD = 12
    """The job was held."""
    JOB_RELEASED = 13
    """The job was released from a hold."""
    JOB_RECONNECT_FAILED = 24
    """The executor was gone when the shadow reconnected; the job becomes idle."""
    FILE_TRANSFER = 40
    """The transfer of input or output files was queued, started or finished."""


MAX_JOBS_PER_SUBMISSION = 20_000
"""The jobs that a schedd accepts in one transaction (its setting of that name; the default)."""
