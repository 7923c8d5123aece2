broker_url = "redis://:config-secret@redis/1"
task_time_limit = 60
worker_concurrency = 8
task_always_eager = False
not_a_setting = 1
