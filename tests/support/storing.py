"""A real S3-compatible store inside a cluster: moto's server in a pod. What is put there, pods find at http://store:5000."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

from environments import uv
from living import Place
from operating import eventually

from cluster import images

MOTO = "moto[s3,server]==5.2.5"
PORT = 5000
_DOCKERFILE = """\
FROM localhost/model-runtime:{version}
COPY packages /packages
ENV PYTHONPATH=/packages
ENTRYPOINT ["python", "-m", "moto.server", "-H", "0.0.0.0", "-p", "{port}"]
"""
_ANYBODY = "AWS4-HMAC-SHA256 Credential=me/20260101/us-east-1/s3/aws4_request"


def put(place: Place, folder: Path, bucket: str, objects: dict[str, bytes]) -> None:
    """A store in the place's namespace that holds these objects; `folder` is to build its image in."""
    _start(place, _image(place, folder))
    eventually(lambda: _answers(place), 120)  # before the way there is opened: kubectl ends when it leads nowhere
    with place.forwarded("service/store", PORT) as target:
        for path, content in {bucket: b"", **{f"{bucket}/{key}": content for key, content in objects.items()}}.items():
            headers = {"Authorization": _ANYBODY, "Content-Type": "application/octet-stream"}
            request = urllib.request.Request(f"http://{target}/{path}", data=content, method="PUT", headers=headers)
            urllib.request.urlopen(request).close()


def _image(place: Place, folder: Path) -> str:
    """Packages are installed here for the image's Python: from inside a build the way to the index may be another."""
    place.caller()
    version = place.kubectl("exec", "caller", "--", "python", "-c", "import platform; print(platform.python_version())")
    install = [uv(), "pip", "install", "--quiet", "--target", str(folder / "packages"), "--python-platform=linux"]
    done = subprocess.run(
        [*install, f"--python-version={version.strip()}", "--only-binary=:all:", MOTO], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (folder / "Dockerfile").write_text(_DOCKERFILE.format(version=images.version(), port=PORT))
    return images.publish_folder(place.access, folder, "test-store")


def _start(place: Place, image: str) -> None:
    place.kubectl("run", "store", f"--image={image}", f"--port={PORT}")
    place.kubectl("expose", "pod", "store")
    place.kubectl("wait", "--for=condition=Ready", "pod/store", "--timeout=60s")


def _answers(place: Place) -> bool:
    ask = f"import urllib.request; urllib.request.urlopen('http://localhost:{PORT}/moto-api/', timeout=5)"
    try:
        place.kubectl("exec", "store", "--", "python", "-c", ask)
    except subprocess.CalledProcessError:
        return False
    return True
