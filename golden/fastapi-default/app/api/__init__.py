"""The service's HTTP side.

Your routes are in routers, which app.py includes. A request passes

    exchange.py   correlation id -> access log -> body and time limits
    deps.py       -> session, opened by the handler's first statement
                  -> handler -> COMMIT acknowledged (a read does not wait for it) -> response

and an error that a handler raises becomes a response in problems.py.
"""
