"""`model.architecture: from-start`: whatever the run that `start_from` names was."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class FromStartConfig(Section):
    """Stands for another section until the run begins; see `unstuck.train.start`."""

    architecture: Literal["from-start"] = Field("from-start", description="the model of the run that start_from names")
