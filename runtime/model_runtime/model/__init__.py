"""The model itself: its directory, its code, and how that code is called (`directory`, `code`, `convention`, `service`).

Runs in the model process, in the model's own environment: standard library and numpy only. Never here: wire bytes, gRPC.
"""
