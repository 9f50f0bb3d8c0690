"""`python -m model_runtime_operator`: what the image does. Watches WATCH_NAMESPACES, or all."""

from __future__ import annotations

import sys

from model_runtime import extras

try:
    import kopf
    from kopf._core.engines.peering import Identity

    from . import handlers  # noqa: F401 - registers itself with kopf
    from .cluster import access
    from .settings import InvalidSetting, from_environment
except ModuleNotFoundError as error:
    sys.exit(extras.report(error, "operator"))


def main() -> int:
    try:
        settings = from_environment()
        access.login(settings)  # refused here in one line, rather than by kopf in many
    except InvalidSetting as error:
        sys.stderr.write(f"model-runtime-operator: {error}\n")
        return 2
    kopf.run(
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        standalone=True,
        identity=Identity(settings.identity),  # kopf would ask for the name of the user, and an arbitrary uid has none
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
