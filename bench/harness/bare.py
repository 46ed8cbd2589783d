"""The floor of the web: one empty view of Flask under the server that the product runs under."""

from flask import Flask, Response

from ai_admin.asgi import AsgiApplication


def create() -> AsgiApplication:
    """What a worker loads."""
    app = Flask("bare")
    app.get("/empty")(lambda: Response(status=204))
    return AsgiApplication(app, threads=16, max_body_bytes=2**20, body_timeout_s=15)
