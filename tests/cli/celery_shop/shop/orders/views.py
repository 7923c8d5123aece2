from celery import chain, chord, group
from celery.result import AsyncResult

from .tasks import charge, price, ship


def checkout(order_id):
    result = charge.apply_async((order_id,), countdown=5, queue="orders", task_id=f"o-{order_id}")
    return result.id


def pipeline(order_id):
    flow = price.s(order_id) | charge.s()
    flow.delay()
    chain(price.s(order_id), charge.si(order_id)).apply_async()
    return chord(group(price.s(each) for each in range(3)), ship.s()).apply_async(priority=9)


def status(task_id):
    result = AsyncResult(task_id)
    if result.ready():
        return result.get()
    return result.state


def stop(task_id):
    AsyncResult(task_id).revoke(terminate=True)
