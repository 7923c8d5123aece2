"""`asyncjobs check-celery`: what it finds in a code base, and what it must not do with it."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.cli.celery.command import examine
from asyncjobs.cli.celery.files import MOST_BYTES, SourceFile
from asyncjobs.cli.celery.project import Project
from asyncjobs.cli.celery.reading import read
from asyncjobs.cli.celery.rule import RULES, Rule, Verdict
from asyncjobs.cli.celery.settings import setting_name
from tests.cli.operator import Ended, operate

ROOT = Path(__file__).resolve().parents[2]
SHOP = Path(__file__).parent / "celery_shop"


def check(path: Path | str, *args: str) -> Ended:
    return operate(SHOP, "check-celery", str(path), *args)


def found_in(**texts: str) -> list[tuple[str, str, int]]:
    """(rule, module, line) of all that is found in modules with these texts."""
    sources = [
        SourceFile(f"{name.replace('__', '/')}.py", name.replace("__", "."), ast.parse(text))
        for name, text in texts.items()
    ]
    uses, _ = read(Project(sources))
    rules = [(RULES.find(use.kind, use.names), use) for use in uses]
    return [(rule.id, use.path, use.line) for rule, use in rules if rule is not None]


def rules_in(text: str) -> set[str]:
    return {rule for rule, _, _ in found_in(tasks=text)}


# A code base


@pytest.fixture(scope="module")
def shop() -> dict[str, Any]:
    done = check(".", "--json")
    assert (done.code, done.err) == (1, "")
    report: dict[str, Any] = json.loads(done.out)
    return report


def places(report: dict[str, Any], rule: str) -> list[str]:
    (found,) = [each for each in report["rules"] if each["id"] == rule]
    return [f"{place['path']}:{place['line']}" for place in found["places"]]


def test_a_whole_code_base(shop: dict[str, Any]) -> None:
    assert shop["files"] == 12
    assert shop["skipped"] == []
    assert shop["clear"] is False
    assert shop["counts"] == {"moves": 31, "needs-hand": 48, "no-equal": 6}


def test_names_are_followed_through_modules(shop: dict[str, Any]) -> None:
    assert places(shop, "call:delay") == [
        "shop/orders/tasks.py:25",
        "shop/orders/tasks.py:30",
        "shop/orders/views.py:14",
    ]
    assert places(shop, "task:plain") == [
        "shop/mail/tasks.py:12",
        "shop/mail/tasks.py:17",
        "shop/orders/tasks.py:8",
        "shop/orders/tasks.py:24",
        "shop/orders/tasks.py:29",
        "shop/reports.py:13",
    ]
    assert places(shop, "control:revoke") == ["shop/reports.py:18"]
    assert places(shop, "result:get=in-task") == ["shop/orders/tasks.py:30"]


def test_settings_are_found_wherever_they_are(shop: dict[str, Any]) -> None:
    assert places(shop, "setting:broker_url") == [
        "celeryconfig.py:1",
        "shop/celery.py:9",
        "shop/settings.py:6",
    ]
    assert places(shop, "setting:worker_prefetch_multiplier") == ["shop/settings.py:11"]
    assert places(shop, "setting:beat_schedule") == ["shop/celery.py:12"]


def test_programs_are_found_in_other_files(shop: dict[str, Any]) -> None:
    assert places(shop, "command:worker") == ["Procfile:2"]
    assert places(shop, "command-option:--autoscale") == ["Procfile:2"]


def test_what_only_looks_like_celery_is_left_alone(shop: dict[str, Any]) -> None:
    named = [place["path"] for rule in shop["rules"] for place in rule["places"]]
    assert "shop/innocent.py" not in named


def test_no_value_is_shown() -> None:
    for args in ([], ["--json"]):
        done = check(".", *args)
        assert "secret" not in done.out + done.err


def test_it_is_grouped_and_ends_with_a_verdict() -> None:
    lines = check(".").out.splitlines()
    headings = [line for line in lines if re.search(r": \d+ places$", line)]
    assert headings == [
        "moves by itself: 31 places",
        "needs a hand: 48 places",
        "has no equal here: 6 places",
    ]
    assert lines[-1] == (
        "12 files read: 31 of 85 places move by themselves, 48 need a hand, 6 have no equal here"
    )
    assert "shop/orders/tasks.py:13\ta task: bound\tcharge" in lines


def test_only_one_part_is_shown_and_the_answer_stays_the_same() -> None:
    done = check(".", "--only", "no-equal")
    assert done.code == 1
    assert "moves by itself:" not in done.out
    assert "shop/boot.py:6\tcelery.bootsteps.StartStopStep\tProbe" in done.out
    report = json.loads(check(".", "--only", "moves", "--json").out)
    assert {rule["verdict"] for rule in report["rules"]} == {"moves"}
    assert report["counts"]["no-equal"] == 6


# Exit codes, and files that cannot be read


def test_all_moves_by_itself(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "from celery import shared_task\n\n\n@shared_task\ndef f():\n    f.delay()\n"
    )
    done = check(tmp_path)
    assert done.code == 0
    assert done.out.splitlines()[-1] == "1 file read: 2 of 2 places move by themselves"


def test_no_celery(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(x):\n    x.delay()\n")
    done = check(tmp_path)
    assert (done.code, done.out) == (0, "1 file read: no Celery found\n")


def test_wrong_usage(tmp_path: Path) -> None:
    assert check(tmp_path / "nothing").code == 2
    done = check(tmp_path)
    assert done.code == 2
    assert "has no Python file" in done.err


def test_a_single_file(tmp_path: Path) -> None:
    path = tmp_path / "tasks.py"
    path.write_text("from celery import Celery\napp = Celery()\n")
    assert "tasks.py:2\tcelery.Celery" in check(path).out


def test_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom celery import Celery\napp = Celery()\n"
    )
    assert check(tmp_path).code == 0
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_read_is_named_and_fails(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("x = 1\nprint 'hello'\n")
    (tmp_path / "huge.py").write_bytes(b"#" * (MOST_BYTES + 1))
    (tmp_path / "null.py").write_bytes(b"x = '\0'")
    (tmp_path / "bytes.py").write_bytes(b"x = '\xff'\n")
    (tmp_path / "deep.py").write_text(f"x = {'(' * 5000}{')' * 5000}")
    (tmp_path / "sum.py").write_text(f"from celery import chain\nx = {' + '.join(['1'] * 20000)}")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "gone.py").symlink_to(tmp_path / "not-there.py")
    report = json.loads((done := check(tmp_path, "--json")).out)
    assert done.code == 1
    assert "Traceback" not in done.err
    why = {each["path"]: each["why"] for each in report["skipped"]}
    assert why["old.py:2"].startswith("not Python as this one reads it: Missing parentheses")
    assert why["huge.py"] == "larger than 2 MiB"
    assert why["pipe.py"] == "no regular file"
    assert why["gone.py"] == "No such file or directory"
    assert {path.partition(":")[0] for path in why} >= {"null.py", "bytes.py", "deep.py"}
    # A deep tree is either walked through or named: never a crash, and never left out in silence.
    assert report["files"] + len(report["skipped"]) == 8
    assert ", 7 Python files not read" in check(tmp_path).out or report["files"] == 0


def test_code_of_others_is_left_out(tmp_path: Path) -> None:
    text = "from celery import Celery\napp = Celery()\n"
    for folder in ("node_modules", ".git", "mine/__pycache__", "lib/site-packages", "odd", "mine"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "tasks.py").write_text(text)
    (tmp_path / "odd" / "pyvenv.cfg").write_text("")
    report = json.loads(check(tmp_path, "--json").out)
    assert places(report, "name:Celery") == ["mine/tasks.py:2"]


def test_a_link_upwards_ends(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("from celery import Celery\napp = Celery()\n")
    (tmp_path / "again").symlink_to(tmp_path)
    report = json.loads(check(tmp_path, "--json").out)
    assert report["files"] == 1


def test_names_of_files_cannot_control_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31mb.py").write_text("from celery import Celery\napp = Celery()\n")
    assert "\x1b[31m" not in check(tmp_path).out


def test_a_chain_of_calls_takes_no_time() -> None:
    """Each link asks what the one before it stands for: twice each time would never end."""
    calls = ".filter(1)" * 100
    assert "call:delay" in rules_in(f"import celery\nfrom tasks_of import x\nx.y{calls}\nx.delay()")


def test_names_that_stand_for_one_another() -> None:
    assert rules_in("import celery\na = b\nb = a\na.delay()") == {"call:delay"}


# How names are followed

APP = "from celery import Celery\napp = Celery('a')\n"


@pytest.mark.parametrize(
    "text",
    [
        "from celery import shared_task as job\n@job\ndef f(): ...\nf.delay()",
        "import celery as c\n@c.shared_task(name='a')\ndef f(): ...\nf.delay()",
        "from celery.app import shared_task\n@shared_task()\ndef f(): ...\nf.delay()",
        f"{APP}queue = app\n@queue.task\ndef f(): ...\nf.delay()",
        f"{APP}g = app.tasks['a']\ng.delay()\n@app.task\nasync def f(): ...",
        "from celery import current_app\n@current_app.task\ndef f(): ...\nf.delay()",
        "def make():\n    from celery import Celery\n    app = Celery()\n    return app\n"
        "celery_app = make()\n@celery_app.task\ndef f(): ...\nf.delay()",
        "from celery import Celery\nclass Ours(Celery):\n    pass\nq = Ours()\n@q.task\n"
        "def f(): ...\nf.delay()",
        "from flask_thing import celery\n@celery.task\ndef f(): ...\nimport celery as c\nf.delay()",
        "from celery.task import task\n@task\ndef f(): ...\nf.delay()",
        "x = load()\nx.config_from_object('a')\n@x.task\ndef f(): ...\nimport celery\nf.delay()",
    ],
)
def test_a_task_is_found_under_any_name(text: str) -> None:
    assert {"task:plain", "call:delay"} <= rules_in(text)


def test_a_module_of_their_own_called_celery() -> None:
    found = found_in(
        celery=APP,
        tasks="from .celery import app\n@app.task\ndef f(): ...\n",
        other="from celery import shared_task\n@shared_task\ndef g(): ...\n",
    )
    assert ("task:plain", "tasks.py", 2) not in found  # a decorator stands above its def
    assert {("task:plain", "tasks.py", 3), ("task:plain", "other.py", 3)} <= set(found)


def test_modules_below_a_folder_that_is_on_the_path() -> None:
    found = found_in(
        src__shop__tasks="from celery import shared_task\n@shared_task\ndef f(): ...\n",
        src__web="from shop.tasks import f\nimport shop.tasks\nf.si(1)\nshop.tasks.f.s()\n",
        src__star="from shop.tasks import *\nf.delay()\n",
    )
    assert {("call:s", "src/web.py", 3), ("call:s", "src/web.py", 4)} <= set(found)
    assert ("call:delay", "src/star.py", 2) in found


def test_results_are_followed_to_where_they_are_asked() -> None:
    text = f"{APP}@app.task\ndef f(): ...\n\ndef view():\n    r = f.apply_async()\n    r.forget()\n"
    assert "result:forget" in rules_in(text)
    text = (
        f"{APP}from celery.result import AsyncResult\ndef view(r: AsyncResult):\n    r.forget()\n"
    )
    assert "result:forget" in rules_in(text)
    assert "result:forget" in rules_in(f"{APP}app.send_task('a').forget()")


def test_an_unknown_thing_with_delay_counts_but_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import celery\nfrom elsewhere import f\nf.delay()\n")
    done = check(tmp_path)
    assert "a.py:3\t.delay()\t(by its name)" in done.out
    text = "import celery\nclass T:\n    def delay(self): ...\nT().delay()\ndef g(): ...\ng.delay()"
    assert rules_in(text) == set()


def test_flask_and_class_settings() -> None:
    text = f"{APP}class Config:\n    task_acks_late = True\napp.config_from_object(Config)\n"
    assert "setting:task_acks_late" in rules_in(text)
    text = "import celery\nflask.config.from_mapping(CELERY=dict(task_routes={}, result_expires=1))"
    assert {"setting:task_routes", "setting:result_expires"} <= rules_in(text)
    text = f"{APP}app.conf.update(CELERYD_CONCURRENCY=1, **{{'task_time_limit': 5}})"
    assert "setting:worker_concurrency" in rules_in(text)
    text = f"{APP}app.conf.update({{'task_time_limit': 5}})\napp.conf['beat_schedule'] = {{}}"
    assert {"setting:task_time_limit", "setting:beat_schedule"} <= rules_in(text)
    found = found_in(main=f"{APP}app.config_from_object('shop.conf')", shop__conf="imports = ()")
    assert ("setting:imports", "shop/conf.py", 1) in found


@pytest.mark.parametrize(
    ("written", "today"),
    [
        ("CELERY_TASK_ACKS_LATE", "task_acks_late"),
        ("CELERY_ACKS_LATE", "task_acks_late"),
        ("CELERY_DEFAULT_PRIORITY", "task_default_priority"),
        ("CELERY_BROKER_URL", "broker_url"),
        ("BROKER_URL", "broker_url"),
        ("CELERYD_CONCURRENCY", "worker_concurrency"),
        ("CELERYD_TASK_TIME_LIMIT", "task_time_limit"),
        ("CELERYBEAT_SCHEDULE", "beat_schedule"),
        ("CELERY_TIMEZONE", "timezone"),
        ("CELERY_OF_OUR_SHOP", None),
    ],
)
def test_settings_by_all_their_names(written: str, today: str | None) -> None:
    assert setting_name(written) == today


# The rules

TASK = "@app.task\ndef f(): ...\n"
BOUND = "@app.task(bind=True)\ndef f(self):\n    "
SAMPLES = {
    "task-option": "@app.task({name}=some)\ndef f(): ...\n",
    "task-method": "class T(app.Task):\n    def {name}(self): ...\n",
    "self": BOUND + "self.{name}\n",
    "inside": "import {root}\n@app.task\ndef f():\n    {name}()\n",
    "call": TASK + "f.{name}()\n",
    "call-option": TASK + "f.apply_async({name}=some)\n",
    "canvas": "import celery\ncelery.{name}()\n",
    "result": "from celery.result import AsyncResult\nAsyncResult(1).{name}()\n",
    "setting": "app.conf.{name} = some\n",
    "signal": "from celery.signals import {name}\n{name}.connect(f)\n",
    "app": "app.{name}()\n",
    "control": "app.control.{name}()\n",
    "inspect": "app.control.inspect().{name}()\n",
    "name": "import celery\ncelery.{name}\n",
    "package": "import {name}\n{name}\n",
}
"""How each kind of name is used. A name with a value has it in place of `some`."""
SPECIAL = {
    "task:plain": TASK,
    "task:bound": BOUND + "pass\n",
    "task:class": "class T(app.Task): ...\n",
    "task:method": "class A:\n    @app.task\n    def f(self): ...\n",
    "task:nested": "def g():\n    @app.task\n    def f(): ...\n",
    "task:periodic": "from celery.task import periodic_task\n@periodic_task()\ndef f(): ...\n",
    "canvas:|": TASK + "f.s() | f.s()\n",
    "result:get=in-task": "@app.task\ndef f():\n    f.delay().{name}()\n",
    "inside:global": "@app.task\ndef f():\n    global x\n",
}
COMMANDS = ("command", "command-option")


def each_name() -> Iterator[Any]:
    for rule in RULES:
        for name in rule.names:
            if rule.kind not in COMMANDS:
                yield pytest.param(rule, name, id=f"{rule.kind}:{name}")


def sample_of(rule: Rule, name: str) -> str:
    bare, _, value = name.partition("=")
    written = bare.replace("*", "something_new")
    text = SPECIAL.get(rule.id) or SPECIAL.get(f"{rule.kind}:{name}") or SAMPLES[rule.kind]
    if rule.kind == "package" and written.startswith("kombu."):
        text = "import kombu\n{name}\n"
    if name == "kombu":
        text = "import kombu\nkombu.Connection()\n"
    if name == "threading.local":
        text = SAMPLES["inside"]
    values = {"json": "'json'", "": "some"}
    text = text.replace("some)", f"{values.get(value, value)})")
    text = text.replace("= some", f"= {values.get(value, value)}")
    return APP + text.replace("{name}", written).replace("{root}", written.partition(".")[0])


@pytest.mark.parametrize(("rule", "name"), list(each_name()))
def test_each_rule_finds_its_sample(rule: Rule, name: str) -> None:
    text = sample_of(rule, name)
    found = found_in(tasks=text)
    last = text.rstrip("\n").count("\n") + 1
    assert [line for id, _, line in found if id == rule.id and line >= 3], (text, found)
    assert all(line <= last for _, _, line in found)


@pytest.mark.parametrize("kind", COMMANDS)
def test_each_command_and_each_flag_is_found(kind: str, tmp_path: Path) -> None:
    names = [name for rule in RULES if rule.kind == kind for name in rule.names]
    lines = [f"celery -A a {name}" for name in names]
    if kind == "command-option":
        lines = [f"exec /usr/bin/celery -A a worker {name}=1 \\\n  x" for name in names]
    (tmp_path / "run.sh").write_text("\n".join(lines))
    (tmp_path / "a.py").touch()
    found = {place.sighting.name for place in examine(tmp_path).places if place.rule.kind == kind}
    assert found == set(names)


def test_names_of_services_and_packages_are_no_commands(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services:\n  celery:\n    image: worker\n    restart: on-failure\n# celery -A a worker\n"
    )
    (tmp_path / "pyproject.toml").write_text('dependencies = ["celery", "redis", "status"]\n')
    (tmp_path / "a.py").touch()
    assert [place.sighting for place in examine(tmp_path).places] == []


def test_each_rule_stands_alone_and_says_what_to_do() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    names = [(rule.kind, name) for rule in RULES for name in rule.names]
    assert sorted(name for name in names if names.count(name) > 1) == []
    assert {rule.verdict for rule in RULES} == set(Verdict)
    assert [rule.id for rule in RULES if len(rule.here) < 5] == []


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_rule_links_to_a_page_that_is_there() -> None:
    missing = []
    for rule in RULES:
        page, _, anchor = rule.docs.partition("#")
        path = ROOT / "docs" / page
        if not path.exists() or (anchor and anchor not in anchors_of(path)):
            missing.append((rule.id, rule.docs))
    assert missing == []
