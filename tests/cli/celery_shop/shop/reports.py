from kombu import Exchange, Queue
from kombu.common import Broadcast

from shop import celery_app as app

app.conf.task_queues = (
    Queue("reports", Exchange("reports", type="topic"), routing_key="reports.#"),
    Broadcast("everybody"),
)


@app.task
def nightly():
    app.send_task("mail.confirm", args=(1,), headers={"token": "header-secret"})


def operate():
    app.control.revoke("an-id", terminate=True)
    app.control.autoscale(10, 3)
    return app.control.inspect().active()
