"""`data.kind: fields`: simulated fields for neural operators."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class FieldsConfig(Section):
    kind: Literal["fields"] = Field("fields", description="pairs of fields, one time step apart")
    source: str = Field("navier-stokes", description="navier-stokes (simulated here) or a folder of fields")
