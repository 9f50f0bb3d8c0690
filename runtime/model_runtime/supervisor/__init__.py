"""Model processes: started, watched, called and restarted. The server's side of the channel.

`host` is what the server talks to; `process` is one model process; `launch` starts one. Never here: gRPC, the user's code.
"""
