"""The names of job attributes that HTCondor or this project uses: an invocation may use others.

Source: HTCondor manual, "Job ClassAd Attributes" (25.14).
"""

from __future__ import annotations

import re

# Families of names; HTCondor adds some with each release.
_PREFIXES = re.compile(
    r"(SwarmRunner|MachineAttr|SUBMIT_|Request|VMPARAM_|JobVM|Want|Transfer|DAG|EC2|Gce|Docker|"
    r"Container|Pre|Post|Periodic|OnExit|Num|Job|StageIn|StageOut|Total|Cumulative|Last|Machine|"
    r"x509)",
    re.IGNORECASE,
)
_NAMES = frozenset(
    """
Absent AccountingGroup AcctGroup AcctGroupUser ActivationDuration ActivationExecutionDuration
ActivationSetupDuration ActivationTeardownDuration AllowedExecuteDuration AllowedJobDuration
AllRemoteHosts Args Arguments AuthTokenGroups AuthTokenId AuthTokenIssuer AuthTokenScopes
AuthTokenSubject BatchExtraSubmitArgs BatchProject BatchQueue BatchRuntime BlockReadKbytes
BlockReads BlockWriteKbytes BlockWrites CheckpointDestination CloudLabelNames ClusterId Cmd
CommittedSlotTime CommittedSuspensionTime CommittedTime CompletionDate ConcurrencyLimits
CondorPlatform CondorVersion CoreSize CpusProvisioned CpusUsage CronDayOfMonth CronDayOfWeek
CronHour CronMinute CronMonth CurrentHosts DeferralPrepTime DeferralTime DeferralWindow
DelegateJobGSICredentialsLifetime DiskProvisioned DiskUsage EmailAttributes
EncryptExecuteDirectory EnteredCurrentStatus Env Environment EraseOutputAndErrorOnRestart Err
ExecutableSize ExecuteDirWasEncrypted ExitBySignal ExitCode ExitSignal ExitStatus
FirstJobMatchDate GlobalJobId GPUsMaxCapability GPUsMinCapability GPUsMinMemory GPUsMinRuntime
GridJobId GridJobStatus GridResource GridResourceUnavailableTime HoldKillSig HoldReason
HoldReasonCode HoldReasonSubCode HookKeyword ImageSize In InitialWaitDuration IOWait Iwd
IwdFlushNFSCache KeepClaimIdle KillSig KillSigTimeout LeaveJobInQueue LimitDirectoryAccess
MaxHosts MaxJobRetirementTime MaxRetries MaxTransferInputMB MaxTransferOutputMB
MemoryProvisioned MemoryUsage MinHosts MountUnderScratch MyType NextJobStartDelay NiceUser
Nonessential NotifyUser NTDomain OSHomeDir OsUser OtherJobRemoveRequirements Out
OutputDestination OutputDirectory Owner ParallelShutdownPolicy ProcId ProportionalSetSizeKb
ProvisionerState QDate Rank RecentBlockReadKbytes RecentBlockReads RecentBlockWriteKbytes
RecentBlockWrites ReleaseReason RemoteHost RemoteIwd RemotePool RemoteSysCpu RemoteUserCpu
RemoteWallClockTime RemoveKillSig RequireGPUs Requirements ResidentSetSize RootDir RunAsOwner
ScitokensFile ScratchDirFileCount ServerTime ShouldTransferFiles SingularityImage SpoolOnEvict
StackSize StderrMtime StdoutMtime StreamErr StreamOut SubmitEventNotes SubmitEventNotesAttrs
SubmitEventUserNotes SubmitterAutoregroup SubmitterGlobalJobId SubmitterGroup
SubmitterNegotiatingGroup SubmitVersion SuccessCheckpointExitBySignal SuccessCheckpointExitCode
SuccessCheckpointExitSignal SuccessPostExitBySignal SuccessPostExitCode SuccessPostExitSignal
SuccessPreExitBySignal SuccessPreExitCode SuccessPreExitSignal TargetType User UserLog
VacateReason VacateReasonCode VacateReasonSubCode VM_MACAddr WindowsBuildNumber
WindowsMajorVersion WindowsMinorVersion
    """.lower().split()
)


def is_reserved(name: str) -> bool:
    """Return whether HTCondor or this project uses a job attribute of that name."""
    return name.lower() in _NAMES or _PREFIXES.match(name) is not None
