"""TLS on a real node: probes that work with it, rollouts and renewed certificates under load, and who gets in."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from authorities import Authority
from cryptography import x509
from living import DOUBLE, Place, doubler
from operating import eventually

pytestmark = [pytest.mark.node, pytest.mark.timeout(600), pytest.mark.usefixtures("chart")]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def secret(name: str, cert: Path, key: Path, ca: Path) -> dict[str, Any]:
    files = {"tls.crt": cert, "tls.key": key, "ca.crt": ca}
    data = {key: base64.b64encode(file.read_bytes()).decode() for key, file in files.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "data": data,
    }


def issue(place: Place, authority: Authority, serial: int) -> None:
    names = (f"doubler.{place.namespace}.svc.cluster.local", f"*.{place.namespace}.svc.cluster.local")
    place.apply(secret("doubler-tls", *authority.issue("server", serial, names=names), authority.ca))


@pytest.mark.parametrize("client_auth", ["None", "Require"])
def test_rollouts_and_a_renewed_certificate_cost_no_call(place: Place, authority: Authority, client_auth: str) -> None:
    place.apply(secret("client-tls", *authority.issue("client"), authority.ca))
    place.apply(doubler(replicas=2, tls={"secretName": "doubler-tls", "clientAuth": client_auth}))
    reason = place.await_reason("doubler", "SecretMissing", 60)
    assert "doubler-tls" in reason["message"]

    issue(place, authority, serial=1001)
    place.ready("doubler", 180)
    with place.load("doubler", calls=12000, rate=100, until_told=True, secret="client-tls") as load:
        place.patch("doubler", {"model": {"inline": {"src/func_main.py": DOUBLE + "\n# changed\n"}}})
        place.ready("doubler", 180)
        issue(place, authority, serial=1002)
        eventually(lambda: served_serial(place, authority.ca) == 1002, 150, every=2)
        place.kubectl("rollout", "restart", "deployment/doubler")
        place.ready("doubler", 180)
        load.enough()
        account = load.account()
    assert (account["lost"], account["wrong"]) == (0, 0), json.dumps(account)
    assert account["calls"] >= 12000


def test_who_shows_no_certificate_is_not_let_in(place: Place, authority: Authority) -> None:
    issue(place, authority, serial=1001)
    place.apply(secret("client-tls", *authority.issue("client"), authority.ca))
    place.apply(doubler(tls={"secretName": "doubler-tls", "clientAuth": "Require"}))
    place.ready("doubler")
    with place.load("doubler", calls=20, rate=20, clients=1, secret="client-tls") as load:
        assert load.account()["lost"] == 0
    ca_only = secret("ca-only", *authority.issue("other"), authority.ca)
    ca_only["type"] = "Opaque"
    del ca_only["data"]["tls.crt"], ca_only["data"]["tls.key"]
    place.apply(ca_only)
    with place.load("doubler", calls=5, rate=20, clients=1, secret="ca-only") as load:
        assert load.account()["lost"] == 5


def served_serial(place: Place, ca: Path) -> int:
    with place.forwarded("service/doubler", 9090) as target:
        host, _, port = target.rpartition(":")
        certificate = ssl.get_server_certificate((host, int(port)))
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number
