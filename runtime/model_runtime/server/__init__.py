"""The server process: gRPC, health, reflection, TLS, drain. It passes raw bytes to a model host and never imports user code.

`manager` puts it together; `engine` is grpcio; `methods` is the table of everything one port answers.
"""
