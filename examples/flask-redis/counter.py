"""Counts its visitors."""

import os

from flask import Flask
from redis import Redis

app = Flask(__name__)
redis = Redis.from_url(os.environ["REDIS_URL"])


@app.get("/")
def index():
    return f"Hello! You are visitor number {redis.incr('visitors')}.\n"
