import os

from celery import Celery
from celery.schedules import crontab
from celery.signals import task_failure, worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop", broker="redis://:broker-secret@localhost:6379/0")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = {
    "nightly": {"task": "shop.reports.nightly", "schedule": crontab(hour=2, minute=30)},
}


@task_failure.connect
def report(sender=None, exception=None, **kwargs):
    print(sender, exception)


@worker_process_init.connect
def open_pool(**kwargs):
    pass
