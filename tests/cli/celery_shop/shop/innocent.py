"""Looks like Celery, and is none."""


class Timer:
    def delay(self, seconds):
        return seconds

    def get(self):
        return self


def group(items):
    return list(items)


Timer().get()
group([1, 2]) + [3]
