"""A job function with `batch=`: enqueued with one item, called with a list of them."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from asyncjobs.errors import BatchError
from asyncjobs.jobs.batches import BatchContext, results_of, results_of_error
from asyncjobs.jobs.calling import CallPlan
from asyncjobs.jobs.context import JobContext, _current
from asyncjobs.jobs.function import JobFunction

__all__ = ["BatchFunction"]

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class BatchFunction(JobFunction[[T], R_co]):
    """What `@app.job(batch=Batch(...))` returns. A job has one item; see `Batch`."""

    async def __call__(self, item: T, /, **given: Any) -> R_co:
        """Run the function here and now with a list of this one item.

        Returns the result of the item, or raises its exception. As with other job functions there
        are no retries and no time-out, and what is not given is made for this call.
        """
        context = JobContext.local(self.name, queue=self.settings.queue)
        # Before the check of the arguments, which refuses what a worker fills in.
        injected = self.injected
        filled = BatchContext((context,))
        if injected is not None:
            filled = given.pop(injected, filled)
        plan = CallPlan()
        made: dict[str, Any] = {}
        wiring = self.wiring
        if wiring is not None:
            made = wiring.take_given(given)
            plan = CallPlan([partial(wiring.make, given=made)])
        self.binding.check((item,), given)
        if injected is not None:
            given[injected] = filled
        token = _current.set(context)
        try:
            value = await plan.call(self.function, ([item],), given, self._execute)
            (result,) = results_of(self.name, value, 1)
        except BatchError as error:
            (result,) = results_of_error(self.name, error, 1)
        finally:
            _current.reset(token)
        if isinstance(result, BaseException):
            raise result
        found: R_co = result
        return found
