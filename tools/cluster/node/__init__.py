"""One real Kubernetes node on this machine, inside private namespaces: the host stays as it is, and killing PID 1 ends all.

On the host: `life` brings it up and down, `launch` enters its control groups and namespaces, `gate` forwards loopback ports
into it, `report` tells how it is. Inside: `init` is PID 1; `mounts` and `network` prepare the place, `components` says what runs,
with the texts of `configuration`.
"""
