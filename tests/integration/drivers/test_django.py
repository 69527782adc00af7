"""Django's ORM with persistent connections, savepoints, iterators and its own health checks."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.drivers.conftest import Routes

django = pytest.importorskip("django")

from django.conf import settings  # noqa: E402
from django.db import connections, models, transaction  # noqa: E402
from django.db.utils import DataError, IntegrityError  # noqa: E402

pytestmark = pytest.mark.servers


def database(host: str, port: int, options: dict[str, Any]) -> dict[str, Any]:
    from proxy.demo.servers import ROLE_PASSWORDS

    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "app",
        "USER": "app_scram",
        "PASSWORD": ROLE_PASSWORDS["app_scram"],
        "HOST": host,
        "PORT": port,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


@pytest.fixture(scope="module")
def member(routes: Routes) -> Iterator[Any]:
    """The model, with its table in the database; aliases `default` (direct) and `proxy`."""
    plain: dict[str, Any] = {}
    binding = {"server_side_binding": True}
    ports = {"default": routes.server.port, "proxy": routes.proxy.port()}
    databases = {name: database("127.0.0.1", port, plain) for name, port in ports.items()}
    databases |= {
        f"{name}_binding": database("127.0.0.1", port, binding) for name, port in ports.items()
    }
    settings.configure(
        DATABASES=databases, USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.AutoField"
    )
    django.setup()

    class Member(models.Model):
        """A member of a gym."""

        name = models.CharField(max_length=20, unique=True)
        joined = models.DateTimeField(auto_now_add=True)
        extra = models.JSONField(default=dict)

        class Meta:
            app_label = "drivers"
            db_table = "drivers_django_member"

    with connections["default"].schema_editor() as editor:
        editor.create_model(Member)
    yield Member
    with connections["default"].schema_editor() as editor:
        editor.delete_model(Member)
    connections.close_all()


def use(member: Any, alias: str) -> Any:
    found = []
    objects = member.objects.using(alias)
    objects.all().delete()
    objects.bulk_create([member(name=f"m{n}", extra={"n": n}) for n in range(300)])
    with pytest.raises(IntegrityError), transaction.atomic(using=alias):
        objects.create(name="kept out")
        objects.create(name="m1")
    with transaction.atomic(using=alias):
        objects.create(name="outer")
        with pytest.raises(DataError), transaction.atomic(using=alias):
            objects.create(name="x" * 50)
        objects.filter(name="outer").update(extra={"nested": [1, None]})
    found.append(objects.get(name="outer").extra)
    found.append(objects.filter(extra__n__gt=250).count())
    found.append(sorted(row.name for row in objects.order_by("name").iterator(chunk_size=50))[:3])
    found.append(objects.aggregate(total=models.Count("id")))
    locked = objects.select_for_update()
    with transaction.atomic(using=alias):
        found.append(locked.get(name="m7").name)
    connections[alias].close_if_unusable_or_obsolete()
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT %s, current_setting('TimeZone')", ["raw"])
        found.append(cursor.fetchone())
    return found


@pytest.mark.parametrize("binding", ["", "_binding"])
def test_orm(member: Any, binding: str) -> None:
    direct = use(member, f"default{binding}")
    assert use(member, f"proxy{binding}") == direct
    assert direct[:2] == [{"nested": [1, None]}, 49]
