"""The routes /todo/v1/schema and /todo/v1/plan. Both only compute; neither touches any state."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

import todo
from todo.settings import KNOBS, SettingsError, unknown_name
from todo.webui import host
from todo.webui.request import COMPARE, ENABLED

PLAN_ARGUMENTS = ("width", "height", "family", "hires")
NO_MODEL = "no model is loaded yet"
NOT_THIS_MODEL = "no effect on this model"


def register(demo: Any, app: FastAPI) -> None:
    """Adds the routes to the host's app."""
    app.get("/todo/v1/schema")(schema)
    app.get("/todo/v1/plan")(plan)


def schema() -> dict[str, Any]:
    """What the first element of the script's `args` may hold, as a JSON Schema."""
    settings = todo.Settings.schema()
    # A dict that does not say so is one that wants ToDo.
    enabled = {ENABLED.name: {**ENABLED.schema(), "default": True}}
    return {**settings, "properties": {**enabled, **settings["properties"], COMPARE.name: COMPARE.schema()}}


def plan(request: Request) -> JSONResponse:
    """The plan for `width` and `height` (pixels), `family` (the loaded model's if left out), `hires` (true for
    the second pass) and any Settings field. 422 with the field's name for a wrong value."""
    try:
        return JSONResponse(_plan(dict(request.query_params)))
    except SettingsError as error:
        return JSONResponse({"detail": str(error), "field": error.field}, status_code=422)


def _plan(query: dict[str, str]) -> dict[str, Any]:
    for name in query:
        if name not in (*PLAN_ARGUMENTS, *KNOBS):
            raise unknown_name(name, (*PLAN_ARGUMENTS, *KNOBS))
    settings = todo.Settings.from_dict({name: value for name, value in query.items() if name in KNOBS})
    arguments: dict[str, Any] = {name: query.get(name) for name in PLAN_ARGUMENTS}
    model = host.loaded_model()
    about = {"checkpoint": host.checkpoint(model) if model else None}
    if arguments["family"] is None:
        arguments["family"] = host.family(model)
    if arguments["family"] is None:
        # The other values are checked all the same.
        todo.plan(**{**arguments, "family": "sd1"}, settings=settings)
        note = NOT_THIS_MODEL if model else NO_MODEL
        return {**about, "family": None, "note": note, "parts": [(note, "")], "summary": note}
    return {**about, **todo.plan(**arguments, settings=settings).to_dict()}
