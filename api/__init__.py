"""Litestar: parse, call one verb, answer. `app.create_app` puts everything together."""
