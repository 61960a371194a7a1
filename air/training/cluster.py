"""The cluster of a training run on several machines, as `TF_CONFIG` describes it; without TensorFlow.

TF_CONFIG='{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from air.errors import UsageError

EXAMPLE = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
ALLOWED = f"it must be such as {EXAMPLE}, the same on all hosts but for the index, which is each worker's own"


class Cluster(NamedTuple):
    """The workers of a run. The first one is the chief, which writes the run folder."""

    workers: tuple[str, ...]  # host:port
    rank: int  # this process' position among them


def read(environment: Mapping[str, str]) -> Cluster:
    """The cluster in `TF_CONFIG`: `worker`s, and perhaps one `chief`, which comes before them.

    Raises:
        UsageError: if it is missing or unusable.
    """
    text = environment.get("TF_CONFIG", "")
    if not text.strip():
        raise UsageError(f"TF_CONFIG: not set, but --strategy multiworker needs it; {ALLOWED}")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UsageError(f"TF_CONFIG: not valid JSON ({error}); {ALLOWED}") from None
    jobs, task = (_entry(content, name, dict) for name in ("cluster", "task"))
    if "worker" not in jobs or not set(jobs) <= {"chief", "worker"}:
        raise _mistake("cluster", list(jobs), "its jobs must be worker and, if wanted, chief")
    chiefs, workers = _addresses(jobs, "chief"), _addresses(jobs, "worker")
    if len(chiefs) > 1:
        raise _mistake("cluster.chief", chiefs, "there must be only one")
    everybody = (*chiefs, *workers)
    if len(set(everybody)) < len(everybody):
        raise _mistake("cluster", list(everybody), "each worker must have an address of its own")
    job, index = task.get("type"), task.get("index")
    if not isinstance(job, str) or job not in jobs:
        raise _mistake("task.type", job, f"it must be one of {', '.join(jobs)}")
    own = chiefs if job == "chief" else workers
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(own):
        raise _mistake("task.index", index, f"it must be from 0 to {len(own) - 1}")
    return Cluster(everybody, index + (len(chiefs) if job == "worker" else 0))


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Raises UsageError if so many replicas can't share a batch evenly."""
    if batch_size % replicas:
        raise UsageError(
            f"batch_size: {batch_size} is not allowed; it must be a multiple of {replicas}, the replicas that share it"
        )


def _entry(content: Any, name: str, kind: type) -> Any:
    if not isinstance(content, dict) or not isinstance(content.get(name), kind):
        raise UsageError(f"TF_CONFIG: {name} is missing or no object; {ALLOWED}")
    return content[name]


def _addresses(jobs: dict[str, Any], job: str) -> tuple[str, ...]:
    addresses = jobs.get(job, [])
    if not isinstance(addresses, list) or (job in jobs and not addresses):
        raise _mistake(f"cluster.{job}", addresses, "it must be a list of host:port")
    for address in addresses:
        match = re.fullmatch(r"[^\s:]+:(\d{1,5})|\[[0-9a-fA-F:.]+\]:(\d{1,5})", address) if isinstance(address, str) else None
        if not match or not 1 <= int(match[1] or match[2]) <= 65535:
            raise _mistake(f"cluster.{job}", address, "each worker must be a host:port with a port from 1 to 65535")
    return tuple(addresses)


def _mistake(field: str, value: Any, rule: str) -> UsageError:
    return UsageError(f"TF_CONFIG: {field}: {json.dumps(value):.80} is not allowed; {rule}; {ALLOWED}")
