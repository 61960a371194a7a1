"""The cluster of a training run on several machines, as the variable `TF_CONFIG` describes it; read without TensorFlow."""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from air.errors import UsageError

EXAMPLE = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
Address = Annotated[str, Field(pattern=r"^([^\s:]+|\[[0-9a-fA-F:.]+\]):\d{1,5}$")]  # host:port


class _Jobs(BaseModel):
    model_config = ConfigDict(extra="forbid")
    chief: list[Address] = Field([], max_length=1)
    worker: list[Address] = Field(min_length=1)


class _Task(BaseModel):
    type: Literal["chief", "worker"]
    index: Annotated[int, Field(ge=0, strict=True)]


class Cluster(BaseModel):
    """The workers of a run as host:port, the chief first, which writes the run folder; and this process' rank among them."""

    cluster: _Jobs
    task: _Task

    @property
    def workers(self) -> list[str]:
        return self.cluster.chief + self.cluster.worker

    @property
    def rank(self) -> int:
        return self.task.index + (len(self.cluster.chief) if self.task.type == "worker" else 0)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.workers)) < len(self.workers):
            raise ValueError("each worker must have an address of its own")
        if self.task.index >= len(getattr(self.cluster, self.task.type)):
            raise ValueError(f"the cluster has no {self.task.type} {self.task.index}")
        return self


def read(environment: Mapping[str, str]) -> Cluster:
    """Read `TF_CONFIG`, or raise UsageError if it is missing or unusable."""
    allowed = f"it must look like {EXAMPLE}, the same on all hosts except for the index, which is each worker's own"
    text = environment.get("TF_CONFIG")
    if not text:
        raise UsageError(f"TF_CONFIG: not set, but --strategy multiworker needs it; {allowed}")
    try:
        return Cluster.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place, value = ".".join(map(str, ("TF_CONFIG", *first["loc"]))), json.dumps(first["input"])
        raise UsageError(f"{place}: {value:.80} is not allowed ({first['msg']}); {allowed}") from None


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Raise UsageError if this many replicas can't divide a batch evenly."""
    if batch_size % replicas:
        rule = f"it must be a multiple of {replicas}, the replicas that divide it"
        raise UsageError(f"batch_size: {batch_size} is not allowed; {rule}")
