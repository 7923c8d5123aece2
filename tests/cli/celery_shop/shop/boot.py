from celery import bootsteps

from .celery import app


class Probe(bootsteps.StartStopStep):
    def start(self, worker):
        pass


app.steps["worker"].add(Probe)
