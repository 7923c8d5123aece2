from shop.celery import app as queue_app


class MailTask(queue_app.Task):
    abstract = True

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        print(exc)


@queue_app.task(base=MailTask, name="mail.confirm")
def confirm(order_id):
    return order_id


@queue_app.task(acks_late=True, time_limit=30)
def letter(order_id):
    global last
    last = order_id
