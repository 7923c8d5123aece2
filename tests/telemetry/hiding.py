"""A program with secrets in its jobs, and what may show them."""

from __future__ import annotations

SECRET = 'hunter2-Zürich/%"quoted"'
OPEN = "an-open-value"
CVV = "737"

PROGRAM = """
import logging

import structlog

from asyncjobs import AsyncJobs, Discard, Secret, current_job

app = AsyncJobs(redact=["*token*"], connect_timeout=2)


class Refused(Exception):
    pass


def _fail(value):
    logging.getLogger("shop").info("calling with %s", value, extra={"given": [value]})
    structlog.get_logger("shop").warning("called", password=value, other={"x": value})
    current_job().progress(1, 2, note=f"with {value}")
    try:
        raise KeyError(value)
    except KeyError as error:
        refused = Refused(f"the bank refused {value!r}")
        refused.add_note(f"tried {value}")
        raise refused from error


@app.job(retry=False, sensitive=("password",))
async def declared(password, user):
    _fail(password)


@app.job(retry=False)
async def annotated(user, *, password: Secret[str]):
    _fail(password)


@app.job(retry=False, sensitive=("card.number",))
async def nested(user, card):
    _fail(card["deep"][0]["number"])


@app.job(retry=False)
async def patterned(user, api_token):
    _fail(api_token)


@app.job(retry=False, sensitive=["password"])
def in_thread(password, user):
    _fail(password)


@app.job(retry=2, sensitive=["password"])
async def again(password, user):
    raise Refused(f"not {password}")


@app.job(sensitive=["password"])
async def discarded(password, user):
    raise Discard(f"not {password}")


@app.job(sensitive=["password"])
async def wrong_result(password, user):
    return {"a": {("x", password)}}


@app.job(retry=False, sensitive=["cvv"])
async def short(cvv, user):
    raise Refused(f"cvv {cvv} is wrong, ref 1{cvv}1")


@app.job(retry=False)
async def undeclared(password, user):
    _fail(password)
"""
