"""One exchange of a lease: all of it, or what a server without room does not refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncjobs.errors import StoreFull
from asyncjobs.model.demand import Demand
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.exchange import ExchangePlan
from asyncjobs.store.redis.link import Link
from asyncjobs.store.redis.scripts import run_each, script

__all__ = ["trade"]


async def trade(
    access: Access,
    link: Link,
    spec: LeaseSpec,
    sequence: int,
    settlements: Sequence[Settlement],
    demand: Mapping[str, Demand],
) -> Exchange:
    """See `Lease.exchange`."""

    def plan_of(settled: Sequence[Settlement], wanted: Mapping[str, Demand]) -> ExchangePlan:
        settings = access.settings
        head = (free, access.keys, spec, access.pinned(), settings.id_ttl_ms, sequence)
        return ExchangePlan(*head, settled, wanted, settings.history)

    free = script("exchange")
    plan = plan_of(settlements, demand)
    if not plan.causes_jobs:
        return plan.read(await run_each(link, free, plan.commands))
    # New jobs need room. A server without any refuses this script before it has done anything.
    bounded = script("exchange_bounded")
    # rule:6 a success that stores jobs is refused at maxmemory, as an enqueue is
    replies = await run_each(link, bounded, plan.by(bounded))
    answers = dict(zip(plan.queues, replies, strict=True))
    full = [queue for queue, reply in answers.items() if isinstance(reply, StoreFull)]
    if full:
        others = [each for each in settlements if each.effects is None and each.job.queue in full]
        rest = plan_of(others, {queue: demand.get(queue, Demand(0)) for queue in full})
        # rule:6 what is settled beside it is not refused
        more = await run_each(link, free, rest.commands)
        answers |= zip(rest.queues, more, strict=True)
        plan.leave_out(full, rest)
    return plan.read(answers.values())
