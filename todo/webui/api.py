"""The routes /todo/v1/schema and /todo/v1/plan. They only compute: neither changes any state.

The host asks for no login at the routes of extensions. So of the host they tell nothing but the family of its model.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from ..prediction import plan as predict
from ..prediction import text
from ..settings import KNOBS, Settings, SettingsError, unknown_name
from . import host
from .request import COMPARE, ENABLED

PLAN_ARGUMENTS = ("width", "height", "family", "hires", "steps")


def register(demo: Any, app: FastAPI) -> None:
    """Adds the routes to the host's app."""
    app.get("/todo/v1/schema")(schema)
    app.get("/todo/v1/plan")(plan)


def schema() -> dict[str, Any]:
    """The JSON Schema of the dict that may be the first element of the script's `args`."""
    settings = Settings.schema()
    # On the page ToDo is off by default, but a payload with a dict asks for ToDo.
    enabled = {ENABLED.name: {**ENABLED.schema(), "default": True}}
    return {**settings, "properties": {**enabled, **settings["properties"], COMPARE.name: COMPARE.schema()}}


def plan(request: Request) -> JSONResponse:
    """The plan for an image size, as JSON.

    Query: `width` and `height` in pixels, `family` (default: that of the loaded model), `hires` (true for the hires
    pass), `steps` and any field of Settings. An invalid value gives status 422, with the name of the field in `field`.
    """
    try:
        return JSONResponse(_plan(dict(request.query_params)))
    except SettingsError as error:
        return JSONResponse({"detail": str(error), "field": error.field}, status_code=422)


def _plan(query: dict[str, str]) -> dict[str, Any]:
    for name in query:
        if name in (ENABLED.name, COMPARE.name):
            raise SettingsError(name, f"{name}: this is no setting of a plan, which tells what ToDo does when it is on")
        if name not in (*PLAN_ARGUMENTS, *KNOBS):
            raise unknown_name(name, (*PLAN_ARGUMENTS, *KNOBS))
    settings = Settings.from_dict({name: value for name, value in query.items() if name in KNOBS})
    arguments: dict[str, Any] = {name: query.get(name) for name in PLAN_ARGUMENTS}
    model = host.loaded_model()
    if arguments["family"] is None:
        arguments["family"] = host.family(model)
    if arguments["family"] is None:
        # Check the other values all the same.
        predict(**{**arguments, "family": "sd1"}, settings=settings)
        why = host.without_family(model)
        return {"family": None, "why": why, "note": text(why), "parts": [why], "summary": text(why)}
    return predict(**arguments, settings=settings).to_dict()
