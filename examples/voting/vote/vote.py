"""The page that takes votes and puts them into the queue."""

import json
import os
import secrets

from flask import Flask, make_response, request
from redis import Redis

app = Flask(__name__)
queue = Redis(host="redis")
choices = os.environ["CHOICES"].split(",")

PAGE = """<!doctype html>
<title>Vote</title>
<form method="post">{buttons}</form>
<p>{said}</p>
"""


@app.route("/", methods=["GET", "POST"])
def vote():
    # Who votes again changes the vote.
    voter = request.form.get("voter") or request.cookies.get("voter") or secrets.token_hex(8)
    said = "Make your choice."
    if request.method == "POST":
        choice = request.form.get("choice")
        if choice not in choices:
            return f"no such choice: {choice}\n", 400
        queue.rpush("votes", json.dumps({"voter": voter, "choice": choice}))
        said = f"You voted for {choice}."
    buttons = "".join(f'<button name="choice" value="{c}">{c}</button>' for c in choices)
    page = make_response(PAGE.format(buttons=buttons, said=said))
    page.set_cookie("voter", voter)
    return page
