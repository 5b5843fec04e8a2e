"""Types that several groups of settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Seconds = Annotated[float, Field(gt=0, le=3600)]
Positive = Annotated[int, Field(ge=1)]
