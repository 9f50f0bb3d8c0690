"""The benchmark: our server beside its peers, in one run on one machine, the same work over real sockets, every answer checked.

`work` says what is asked and what is right, `servers` who answers, `wires` how each is spoken to, `process` starts a server on
a core of its own and reads what it uses, `load` drives it from another core, `report` writes the table. `__main__` is first.
"""
