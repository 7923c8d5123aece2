INSTALLED_APPS = [
    "django.contrib.admin",
    "django_celery_beat",
    "shop.orders",
]
CELERY_BROKER_URL = "amqp://shop:broker-secret@rabbit//"
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json", "pickle"]
CELERYD_PREFETCH_MULTIPLIER = 1
CELERY_TASK_ROUTES = {"shop.mail.*": {"queue": "mail"}}
SHOP_CELERY_NAME = "none of Celery's"
