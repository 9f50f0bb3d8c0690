"""Who the operator is at the API server: a pod's service account, or a kubeconfig; what cannot be used is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml

from model_runtime_operator.cluster import access
from model_runtime_operator.cluster.access import Access
from model_runtime_operator.settings import InvalidSetting, Settings, from_environment


def settings(patch: pytest.MonkeyPatch, **environment: str) -> Settings:
    patch.delenv("KUBECONFIG", raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)
    return from_environment({"RUNTIME_IMAGE": "x", "HOME": "/nowhere", **environment})


def kubeconfig(folder: Path, user: dict[str, Any], server: str = "https://example.com:6443/") -> str:
    path = folder / "kubeconfig"
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_kubeconfig_gives_server_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = Access(settings(monkeypatch, KUBECONFIG=kubeconfig(tmp_path, {"token": "secret"})))
    assert way.server == "https://example.com:6443"
    assert way.headers() == {"Authorization": "Bearer secret"}
    assert way.tls is not None


def test_a_proxy_of_kubectl_needs_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = Access(settings(monkeypatch, KUBECONFIG=kubeconfig(tmp_path, {}, "http://127.0.0.1:8001")))
    assert (way.server, way.headers(), way.tls) == ("http://127.0.0.1:8001", {}, None)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"exec": {"command": "aws"}}, "expected a token or a client certificate in .*kubectl proxy"),
        ({}, "expected a token or a client certificate"),
    ],
)
def test_a_user_without_usable_credentials_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any], message: str
) -> None:
    chosen = settings(monkeypatch, KUBECONFIG=kubeconfig(tmp_path, user))
    with pytest.raises(InvalidSetting, match=message):
        Access(chosen)


@pytest.mark.parametrize("content", ["", "[]", "current-context: none", "{", "contexts: 1"])
def test_a_kubeconfig_that_makes_no_sense_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    chosen = settings(monkeypatch, KUBECONFIG=str(path))
    with pytest.raises(InvalidSetting, match=f"KUBECONFIG: {path} cannot be used"):
        Access(chosen)


def test_a_pod_uses_the_address_that_the_kubelet_gives_and_reads_its_token_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens = iter(("first", "second"))

    def login_as_pod(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server="https://kubernetes.default.svc", token=next(tokens))

    monkeypatch.setattr(kopf, "login_with_service_account", login_as_pod)
    way = Access(settings(monkeypatch, KUBERNETES_SERVICE_HOST="fd00::1", KUBERNETES_SERVICE_PORT="443"))
    assert way.server == "https://[fd00::1]:443"
    assert way.headers() == {"Authorization": "Bearer first"}
    monkeypatch.setattr(access, "TOKEN_SECONDS", 0.0)
    assert way.headers() == {"Authorization": "Bearer second"}


def test_without_either_the_operator_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: None)
    with pytest.raises(InvalidSetting, match="expected a file, or a pod's service account; found neither"):
        Access(settings(monkeypatch))
