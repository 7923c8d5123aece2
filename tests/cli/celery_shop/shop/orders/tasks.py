from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

from shop.mail.tasks import confirm


@shared_task
def price(order_id):
    return order_id * 2


@shared_task(bind=True, max_retries=5, default_retry_delay=30)
def charge(self, order_id):
    try:
        return price(order_id)
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=2**self.request.retries)
    except SoftTimeLimitExceeded:
        self.update_state(state="LATE")
        raise


@shared_task(autoretry_for=(OSError,), retry_backoff=True, rate_limit="10/m")
def ship(order_id):
    confirm.delay(order_id)


@shared_task(ignore_result=True)
def wait_for_price(order_id):
    return price.delay(order_id).get(timeout=10)
